/**
 * What surrounds `runc checkpoint`: CRIU's configuration before it, the facts for a later restore after it. Called by
 * shim/main.ts alone, which hands it to the task service.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DUMP_FACTS_FILE, type DumpFacts } from '../../checkpoint/facts.ts';
import { hostFacts, mountFacts } from '../../checkpoint/host-facts.ts';
import { launchOf } from '../../checkpoint/launch.ts';
import { Code } from '../../proto/status.ts';
import { dumpConf } from '../criu-conf.ts';
import { type CudaFiles, cudaHelper, suspendGpu } from '../cuda/index.ts';
import { ShimError } from '../error.ts';
import { afterRestore } from '../identity/after-restore.ts';
import { containerFiles } from '../identity/container-files.ts';
import { expectReady, hideTold } from '../identity/saving.ts';
import { mountedFiles } from '../mounted-files.ts';
import { hookMounts, savingObstacle } from '../nvidia-mounts.ts';
import { procTree, treeOf } from '../process/process-tree.ts';
import { isRunc } from '../runc/runc.ts';
import { aliasesOf, lostNamesOf } from '../shm/links.ts';
import { sharedMemoryDir } from '../shm/place.ts';
import { saveShm } from '../shm/save.ts';
import { surroundingsOf } from '../surroundings.ts';
import { readSpec } from '../task/bundle.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import type { AfterResume, DumpInput, PrepareDump } from '../task/start-plan.ts';
import { nodeVersions } from '../versions.ts';
import { hugePagesOf } from './huge-pages.ts';
import { checkUsers } from './other-users.ts';

/** `cuda`: where the program is that takes processes off the GPU. */
export function dumpPreparer(cuda: CudaFiles): PrepareDump {
  return async (input) => {
    const conf = join(input.bundle, 'criu.conf');
    const spec = specOf(input);
    expectReady(input, containerFiles);
    await checkUsers(input.pid);
    const facts = await dumpFacts(input, spec);
    const shm = sharedMemoryDir(spec);
    const mounted = hookMounts(await readFile(`/proc/${input.pid}/mountinfo`, 'utf8'), spec);
    const obstacle = savingObstacle(mounted);
    if (obstacle)
      throw new ShimError(Code.failedPrecondition, `Cannot checkpoint the container: ${obstacle}`);
    const words = { ...input, linkRemap: shm !== undefined, skippedMounts: mounted.needless };
    await writeFile(conf, dumpConf(words), { mode: 0o600 });
    // From here on the workload stands still.
    const gpu = await suspendGpu({ ...input, spec }, () => cudaHelper(cuda, input.runc));
    const resume = await keepStill(input, shm).catch(async (error: unknown) => {
      await gpu?.finish('failed');
      throw error;
    });
    const hidden = hideTold(input, containerFiles);
    return {
      extraArgs: [],
      async finish(outcome) {
        let afterGpu: AfterResume | undefined;
        try {
          if (outcome === 'dumped' && shm !== undefined) await saveSharedMemory(input, shm);
        } finally {
          await resume();
          afterGpu = await gpu?.finish(outcome);
          await writeFile(conf, '', { mode: 0o600 });
        }
        if (outcome === 'dumped') {
          const text = JSON.stringify({ ...facts, ...(gpu ? { cuda: gpu.facts } : {}) });
          await writeFile(join(input.imagePath, DUMP_FACTS_FILE), text, { mode: 0o600 });
        }
        if (outcome === 'dumped' && input.exit) return undefined;
        const goOn = async () => {
          await afterGpu?.();
          hidden.goOn(outcome);
        };
        if (input.paused) return goOn;
        await goOn();
        return undefined;
      },
    };
  };
}

/** What is in /dev/shm must be what it was when the processes were dumped. Returns what ends that. */
async function keepStill(
  { paused, exit, runc, id }: DumpInput,
  shm: string | undefined,
): Promise<() => Promise<void>> {
  // One that ends with the dump is still until then, and one that is paused stays so.
  if (paused || exit || shm === undefined) return async () => {};
  await runc.pause(id);
  return () => runc.resume(id);
}

async function saveSharedMemory({ imagePath, pid, exit, id, log }: DumpInput, shm: string): Promise<void> {
  // Where the processes are gone CRIU has left the names that it made.
  const lost = exit ? undefined : await lostNamesOf(await treeOf(pid, procTree), shm);
  const aliases = lost ? await aliasesOf(imagePath, lost) : [];
  const { entries, bytes, leftOut } = await saveShm(shm, imagePath, aliases);
  if (entries > 0) log.info({ container: id, entries, bytes }, 'saved /dev/shm');
  if (leftOut.length > 0) log.warn({ container: id, leftOut }, 'left out of /dev/shm: no files');
}

/** What the container runs with: a program in front of runc may have edited the bundle since. */
function specOf({ spec, bundle, runc }: DumpInput): OciSpec {
  return isRunc(runc.config) ? spec : readSpec(bundle);
}

async function dumpFacts({ spec: asked, runc, pid }: DumpInput, spec: OciSpec): Promise<DumpFacts> {
  const [hugePages, files] = await Promise.all([hugePagesOf(pid), mountedFiles(asked)]);
  const after = afterRestore(asked.annotations);
  return {
    ...(Object.keys(after).length > 0 ? { afterRestore: after } : {}),
    ...(hugePages.length > 0 ? { hugePages } : {}),
    launch: { ...launchOf(asked), ...(files.length > 0 ? { files } : {}) },
    host: await hostFacts(await nodeVersions(runc)),
    mounts: mountFacts(spec),
    surroundings: surroundingsOf(spec),
  };
}
