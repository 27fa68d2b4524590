/** A thread of FetchThreads: fetches ranges, verifies, decodes and writes them. */
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../native/index.ts';
import type { BlobSource, SourceSpec } from '../cache/blob-source.ts';
// From the files themselves: a thread starts while somebody waits, and the cache's other half need not be loaded.
import { explain } from '../cache/fetch-failure.ts';
import { LocalSource } from '../cache/local-source.ts';
import { DirectTransfers } from '../cache/transfers.ts';
import { Registries } from '../remote/registries.ts';
import { CredentialAsker } from './credential-asker.ts';
import { type FromWorker, type JobReport, packError, type ToWorker, type WorkerSetup } from './protocol.ts';

type Report<T = JobReport> = T extends unknown ? Omit<T, 'job' | 'bytes' | 'mirrored'> : never;

if (!parentPort) throw new Error('This program runs as a thread of thaw-snapshotter only');
const port = parentPort;
const setup = workerData as WorkerSetup;
const asker = new CredentialAsker((message: FromWorker) => port.postMessage(message));
const registries = new Registries({
  hosts: setup.hosts,
  hostsDirs: setup.hostsDirs,
  credentials: (request) => asker.ask(request),
});
const transfers = new DirectTransfers(native.writeChunk, async (...chunk) => native.writeChunkHere(...chunk));
// Of this thread alone: 0 is the caller, and to Linux that is a thread (setpriority(2)).
if (setup.nice > 0) setPriority(0, setup.nice);
const running = new Map<number, AbortController>();

port.on('message', (message: ToWorker) => {
  switch (message.kind) {
    case 'fetch':
      void run(message);
      return;
    case 'abort':
      running.get(message.job)?.abort();
      return;
    case 'credentials':
    case 'no credentials':
      asker.answered(message);
      return;
  }
});

async function run({ job, range, source, directory }: ToWorker & { kind: 'fetch' }): Promise<void> {
  const abort = new AbortController();
  running.set(job, abort);
  let bytes = 0;
  let mirroredBefore = 0;
  let opened: BlobSource | undefined;
  const report = (what: Report) => {
    const mirrored = opened?.mirroredBytes ?? 0;
    port.postMessage({ ...what, job, bytes, mirrored: mirrored - mirroredBefore } satisfies JobReport);
    bytes = 0;
    mirroredBefore = mirrored;
  };
  try {
    const from = open(source);
    opened = from;
    const events = {
      // Told with the next message: a piece is a few KiB.
      onBytes: (received: number) => {
        bytes += received;
      },
      onStored: (ordinal: number) => report({ kind: 'stored', ordinal }),
      onCorrupt: (ordinal: number, error: unknown) =>
        report({ kind: 'corrupt', ordinal, error: packError(error) }),
      onUnreadable: (cause: unknown) =>
        report({ kind: 'unreadable', error: packError(explain(cause, from)) }),
    };
    try {
      await transfers.run(range, from, directory, events, abort.signal);
      report({ kind: 'done' });
    } catch (error) {
      report({ kind: 'failed', error: packError(explain(error, from)) });
    }
  } catch (error) {
    report({ kind: 'failed', error: packError(error) });
  } finally {
    running.delete(job);
  }
}

function open(spec: SourceSpec): BlobSource {
  switch (spec.kind) {
    case 'image':
      return registries.source(spec.reference);
    case 'unpacked':
      return new LocalSource(spec.directories, native.openBeneath);
  }
}
