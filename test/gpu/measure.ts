/**
 * GPU state on a real GPU, through the shim's own code for dump and restore, with runc and CRIU and without containerd.
 * Started by scripts/gpu-test; writes results.json. A section that fails says so there and does not stop the others.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CHUNK_RECORD_BYTES, ChunkTable } from '../../checkpoint/chunk-table.ts';
import { writePagemap } from '../../checkpoint/criu/pagemap.ts';
import { native } from '../../native/index.ts';
import { allBits } from '../../native/page-server/bits.ts';
import { describeError } from '../../proto/status.ts';
import { dumpPreparer } from '../../shim/checkpoint/index.ts';
import { cudaHelper } from '../../shim/cuda/index.ts';
import type { Log } from '../../shim/log.ts';
import { ChildSpawner } from '../../shim/process/spawn.ts';
import { LazyMemory } from '../../shim/restore/lazy/lazy-memory.ts';
import type { PreparedMemory } from '../../shim/restore/lazy/prepare.ts';
import { readMemoryPlan } from '../../shim/restore/lazy/read-images.ts';
import {
  attemptDeps,
  checkChain,
  editsOf,
  gpuRestores,
  planGiven,
  savedGpu,
} from '../../shim/restore/restoring.ts';
import { Runc } from '../../shim/runc/runc.ts';
import { dump } from '../../shim/task/dump.ts';
import type { OciSpec } from '../../shim/task/oci-spec.ts';
import type { AfterResume } from '../../shim/task/start-plan.ts';

const [pack = '', results = 'results.json', commit = '', only = ''] = process.argv.slice(2);
/** In memory: no disk is measured. */
const WORK = '/dev/shm/gpu-test';
const DEVICE = /^nvidia(\d+|ctl|-uvm)$/;
const SYSTEM = ['usr', 'lib', 'lib64', 'bin', 'sbin', 'etc', 'opt'];
const PYTHON = ['/opt/torch/.venv/bin/python3', '/usr/bin/python3'];

type Fields = Record<string, number | boolean | string>;
const heard: { message: string; fields: Fields }[] = [];
const hear = (fields: unknown, message?: unknown) => {
  heard.push({ message: String(message), fields: fields as Fields });
  process.stdout.write(`  ${String(message)} ${JSON.stringify(fields)}\n`);
};
const log = { debug: () => {}, info: hear, warn: hear, error: hear, child: () => log } as unknown as Log;

const cuda = { program: join(pack, 'bin/thaw-cuda'), libcuda: '', nvml: '' };
const env = {
  ...(process.env as Record<string, string>),
  PATH: `${pack}/criu:${process.env['PATH']}`,
  LD_LIBRARY_PATH: `${pack}/runc`,
};
const runc = new Runc(
  { binary: join(pack, 'runc/runc'), root: join(WORK, 'runc'), systemdCgroup: false, env },
  new ChildSpawner(native),
);
const config = {
  daemonSocket: '/nonexistent',
  guardProgram: join(pack, 'bin/containerd-shim-thaw-v2'),
  cuda,
};

/** A container that has the machine's programs and GPUs, and a root file system of its own. */
class Container {
  readonly id: string;
  readonly bundle: string;
  readonly spec: OciSpec;
  pid = 0;
  afterResume: AfterResume | undefined;

  /** With these GPUs, or all. */
  constructor(id: string, args: string[], minors?: number[]) {
    this.id = id;
    this.bundle = join(WORK, id);
    mkdirSync(join(this.bundle, 'rootfs/pack'), { recursive: true });
    execFileSync(join(pack, 'runc/runc'), ['spec'], { cwd: this.bundle, env });
    const spec = JSON.parse(readFileSync(join(this.bundle, 'config.json'), 'utf8')) as OciSpec & {
      linux: { resources: object; devices: object[] };
    };
    const bind = (source: string, destination = source) => ({
      destination,
      source,
      type: 'bind',
      options: ['bind', 'ro', 'rprivate'],
    });
    const present = SYSTEM.map((name) => `/${name}`).filter((path) => existsSync(path));
    // CRIU cannot mount what is named by a link: /lib is one to usr/lib.
    const links = present.filter((path) => lstatSync(path).isSymbolicLink());
    for (const path of links) symlinkSync(readlinkSync(path), join(this.bundle, 'rootfs', path));
    const folders = present.filter((path) => !links.includes(path));
    for (const path of folders) mkdirSync(join(this.bundle, 'rootfs', path), { recursive: true });
    spec.mounts = [
      ...(spec.mounts ?? []),
      ...folders.map((path) => bind(path)),
      ...(existsSync('/usr/local/nvidia') ? [bind('/usr/local/nvidia')] : []),
      bind(pack, '/pack'),
    ];
    spec.process = { ...spec.process, terminal: false, args };
    spec.root = { path: 'rootfs', readonly: false };
    spec.annotations = { 'org.criu.config': join(this.bundle, 'criu.conf') };
    this.spec = spec;
    writeFileSync(join(this.bundle, 'criu.conf'), '');
    this.give(minors);
  }

  /** Only these GPUs from the next start or restore on, or all. */
  give(minors?: number[]): void {
    const devices = readdirSync('/dev')
      .filter((name) => DEVICE.test(name))
      .filter((name) => !minors || !/\d$/.test(name) || minors.includes(Number(name.slice('nvidia'.length))))
      .map((name) => {
        const { rdev } = statSync(`/dev/${name}`);
        return { path: `/dev/${name}`, type: 'c', major: rdev >> 8, minor: rdev & 0xff, fileMode: 0o666 };
      });
    const allowed = devices.map(({ type, major, minor }) => ({
      allow: true,
      type,
      major,
      minor,
      access: 'rwm',
    }));
    const resources = { devices: [{ allow: false, access: 'rwm' }, ...allowed] };
    Object.assign(this.spec.linux ?? {}, { devices, cgroupsPath: `/gpu-test/${this.id}`, resources });
    writeFileSync(join(this.bundle, 'config.json'), JSON.stringify(this.spec));
  }

  file(name: string): string {
    const path = join(this.bundle, 'rootfs', name);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  last(): string {
    return this.file('out').trimEnd().split('\n').at(-1) ?? '';
  }

  async start(): Promise<this> {
    const pidFile = join(this.bundle, 'init.pid');
    await runc.create(
      {
        id: this.id,
        bundle: this.bundle,
        pidFile,
        noPivot: false,
        noNewKeyring: false,
        consoleSocket: undefined,
      },
      { cwd: this.bundle },
    );
    this.pid = Number(readFileSync(pidFile, 'utf8'));
    await runc.start(this.id);
    await this.until(/^(observation|answer) /m);
    return this;
  }

  async until(pattern: RegExp): Promise<string> {
    for (let waited = 0; waited < 120_000; waited += 50) {
      const found = pattern.exec(this.file('out'))?.[0];
      if (found) return found;
      if (/^failed/m.test(this.file('out'))) break;
      await sleep(50);
    }
    throw new Error(`${this.id} did not say ${pattern}: ${this.file('out').slice(-300)}`);
  }

  /** Its next words, and whether they come. */
  async goesOn(): Promise<string> {
    const before = this.last();
    for (let waited = 0; waited < 30_000; waited += 50) {
      await sleep(50);
      if (this.last() !== before && /^(observation|answer) /.test(this.last())) return this.last();
    }
    throw new Error(`${this.id} stands still after "${before}"`);
  }

  /** Of all GPU memory. */
  async sum(): Promise<string> {
    const known = this.file('out').match(/^sum .*$/gm)?.length ?? 0;
    process.kill(this.pid, 'SIGUSR1');
    await this.until(new RegExp(`(?:^sum .*$[^]*){${known + 1}}`, 'm'));
    return (
      this.file('out')
        .match(/^sum .*$/gm)
        ?.at(-1) ?? ''
    );
  }

  async dump(images: string, { exit = true, paused = false, parentPath = '' } = {}): Promise<number> {
    const began = performance.now();
    await dump({
      id: this.id,
      namespace: 'gpu',
      bundle: this.bundle,
      spec: this.spec,
      runc,
      pid: this.pid,
      paused,
      path: images,
      options: {
        exit,
        openTcp: false,
        externalUnixSockets: false,
        terminal: false,
        fileLocks: false,
        emptyNamespaces: [],
        imagePath: '',
        workPath: '',
        parentPath,
      },
      prepareDump: dumpPreparer(cuda),
      onResume: (afterResume) => {
        this.afterResume = afterResume;
      },
      log,
    });
    return performance.now() - began;
  }

  /** With `served`, private memory comes from the page server while the processes run already. */
  async restore(images: string, served = false): Promise<number> {
    await runc.delete(this.id, true);
    const input = {
      namespace: 'gpu',
      id: this.id,
      bundle: this.bundle,
      rootfs: [],
      spec: this.spec,
      runc,
      log,
    };
    const workPath = served ? join(this.bundle, 'criu-work') : '';
    const given = { imagePath: images, workPath };
    const plan = planGiven({ ...input, checkpoint: given }, given, {
      ...attemptDeps(),
      checkImages: checkChain,
      prepareRecorded: () => pageServed(images),
      prepareGpu: gpuRestores(config),
      savedGpu,
      wrapperEdits: editsOf,
    });
    const began = performance.now();
    const outcome = await plan.restore({
      ...input,
      stdio: ['ignore', 'ignore', 'ignore'],
      pidFile: join(this.bundle, 'restored.pid'),
      workDir: join(this.bundle, 'work'),
      noPivot: false,
    });
    if (outcome.kind === 'failed') throw new Error(outcome.reason);
    this.pid = outcome.pid;
    const ms = performance.now() - began;
    await outcome.memory?.complete;
    return ms;
  }

  async remove(): Promise<void> {
    await runc.delete(this.id, true).catch(() => {});
    rmSync(this.bundle, { recursive: true, force: true });
  }
}

const hold = (token: string, mib: number, ...more: string[]) => [
  '/pack/bin/hold',
  '--token',
  token,
  '--file',
  '/token',
  '--out',
  '/out',
  '--mib',
  String(mib),
  ...more,
];
const field = (message: string, name: string) => {
  const value = heard.findLast((line) => line.message === message)?.fields[name];
  return typeof value === 'number' ? value : Number.NaN;
};
const rate = (bytes: number, ms: number) => Math.round(bytes / ms / 1e4) / 100;
const failure = (error: unknown) => describeError(error).message;
const helper = cudaHelper(cuda, runc);

const CHUNK = 512 << 10;

/** As prepareMemory plans it, for images that are all here: nothing is waited for, everything is copied. */
async function pageServed(imagesDir: string): Promise<PreparedMemory> {
  let chunkCount = 0;
  const files = readdirSync(imagesDir)
    .filter((name) => /^pages-\d+\.img$/.test(name))
    .map((name) => {
      const { size } = statSync(join(imagesDir, name));
      const records = Buffer.alloc(Math.ceil(size / CHUNK) * CHUNK_RECORD_BYTES);
      for (let at = 0; at < size; at += CHUNK) {
        const record = (at / CHUNK) * CHUNK_RECORD_BYTES;
        records.writeBigUInt64LE(BigInt(at), record);
        records.writeUInt32LE(Math.min(CHUNK, size - at), record + 20);
      }
      const chunks = new ChunkTable(records);
      const file = { name, size: BigInt(size), chunks, firstOrdinal: chunkCount };
      chunkCount += chunks.count;
      return file;
    });
  const checkpointJson = { offset: 0, length: 0, digest: '' };
  const index = { dataLayers: [], files, accessOrder: [], checkpointJson, chunkCount };
  const plan = await readMemoryPlan(imagesDir, index);
  if (!plan) throw new Error('the memory of the checkpoint cannot be served');
  const here = {
    usable: true,
    want: async () => {},
    presence: async () => ({ bits: allBits(chunkCount), chunks: chunkCount, complete: true }),
    close: () => {},
  };
  const deps = { calls: native, guardProgram: config.guardProgram, daemon: { connect: async () => here } };
  return {
    images: new Map([...plan.pagemaps].map(([name, pagemap]) => [name, writePagemap(pagemap)])),
    start: (workDir, cgroups, spawner, log) =>
      LazyMemory.start(
        workDir,
        { id: 'gpu', imagesDir, index, plan, relocate: async () => {}, cgroups },
        { ...deps, spawner, log },
      ),
  };
}

/** One token each in CPU memory, in a file and on the GPU; all GPU memory is compared too. */
async function tokens(gib: number) {
  const images = join(WORK, 'images');
  const box = await new Container(`hold-${gib}`, hold(`token-${gib}`, gib * 1024)).start();
  try {
    const before = await box.sum();
    const dumpMs = await box.dump(images);
    const lockMs = field('GPU state is in memory', 'lockMs');
    const checkpointMs = field('GPU state is in memory', 'checkpointMs');
    const gpuBytes = field('GPU state is in memory', 'gpuBytes');
    const imageBytes = Number(execFileSync('du', ['-sb', images], { encoding: 'utf8' }).split('\t')[0]);
    const allMs = await box.restore(images);
    const restoreMs = field('GPU state is back', 'restoreMs');
    const unlockMs = field('GPU state is back', 'unlockMs');
    const text = await box.goesOn();
    const isEqual = (await box.sum()) === before;
    const servedMs = await box.restore(images, true);
    const servedRestoreMs = field('GPU state is back', 'restoreMs');
    const filledMs = field('no memory of the checkpoint is waited for any more', 'ms');
    const again = await box.goesOn();
    const kept = (name: string) => [text, again].every((line) => line.includes(` ${name}=token-${gib}...`));
    const criuDumpMs = Math.round(dumpMs - lockMs - checkpointMs);
    const criuRestoreMs = Math.round(allMs - restoreMs - unlockMs);
    return {
      gib,
      gpu_bytes: gpuBytes,
      image_bytes: imageBytes,
      token_kept: { cpu: kept('cpu'), file: kept('file'), gpu: kept('gpu') },
      memory_equal: isEqual && (await box.sum()) === before,
      page_server: {
        criu_ms: Math.round(servedMs - servedRestoreMs),
        restore_ms: servedRestoreMs,
        all_ms: Math.round(servedMs),
        filled_ms: filledMs,
      },
      ms: {
        lock: lockMs,
        checkpoint: checkpointMs,
        criu_dump: criuDumpMs,
        criu_restore: criuRestoreMs,
        restore: restoreMs,
        unlock: unlockMs,
      },
      gb_per_s: {
        checkpoint: rate(gpuBytes, checkpointMs),
        criu_dump: rate(imageBytes, criuDumpMs),
        criu_restore: rate(imageBytes, criuRestoreMs),
        restore: rate(gpuBytes, restoreMs),
      },
    };
  } finally {
    await box.remove();
    rmSync(images, { recursive: true, force: true });
  }
}

/** Restored with another GPU than it was dumped with: each is given one of two. */
async function otherGpu() {
  const { gpus } = await helper.gpus();
  const [first, second] = gpus;
  if (!first || !second) return { failed: 'there is one GPU' };
  const images = join(WORK, 'images');
  const box = await new Container('moves', hold('moves', 4096), [first.minor]).start();
  try {
    const before = await box.sum();
    await box.dump(images);
    box.give([second.minor]);
    const ms = await box.restore(images);
    const isOn = (await helper.use()).has(box.pid);
    const text = await box.goesOn();
    return {
      token_kept: ['cpu', 'file', 'gpu'].every((name) => text.includes(` ${name}=moves...`)),
      memory_equal: (await box.sum()) === before,
      uses_a_gpu: isOn,
      moved: heard.findLast(({ message }) => message === 'GPU state is back')?.fields['moved'] === true,
      restore_ms: field('GPU state is back', 'restoreMs'),
      ms: Math.round(ms),
    };
  } finally {
    await box.remove();
    rmSync(images, { recursive: true, force: true });
  }
}

const MODEL = `
import time, torch
torch.manual_seed(7)
wide = 4096
model = torch.nn.Sequential(*[torch.nn.Linear(wide, wide) for _ in range(16)]).half().cuda()
question = torch.randn(8, wide).half().cuda()
out = open('/out', 'a', buffering=1)
n = 0
while True:
    with torch.no_grad(): answer = model(question).double().sum().item()
    n += 1
    out.write('answer %d %r\\n' % (n, answer))
    time.sleep(0.1)
`;

async function model() {
  const images = join(WORK, 'images');
  const python = PYTHON.find((path) => existsSync(path)) ?? 'python3';
  const box = new Container('model', [python, '/model.py']);
  writeFileSync(join(box.bundle, 'rootfs/model.py'), MODEL);
  const began = performance.now();
  try {
    await box.start();
    const coldMs = Math.round(performance.now() - began);
    const before = (await box.goesOn()).split(' ')[2];
    const dumpMs = await box.dump(images);
    const restoreMs = await box.restore(images);
    const count = Number(box.last().split(' ')[1]);
    const [, n, after] = (await box.goesOn()).split(' ');
    return {
      answers_equal: before !== undefined && before === after && Number(n) > count,
      gpu_bytes: field('GPU state is in memory', 'gpuBytes'),
      ms: { cold_first_answer: coldMs, dump: Math.round(dumpMs), restore: Math.round(restoreMs) },
    };
  } finally {
    await box.remove();
    rmSync(images, { recursive: true, force: true });
  }
}

async function expectFailure(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return failure(error);
  }
  throw new Error('what should fail did not');
}

/** A checkpoint that fails leaves the workload as it was. */
async function rollbacks() {
  const images = join(WORK, 'images');
  const out: Record<string, object> = {};
  const box = await new Container('busy', hold('busy', 1024, '--spin', '20000')).start();
  try {
    const before = await box.sum();
    out['dump_fails_after_gpu'] = {
      reason: await expectFailure(box.dump(images, { exit: false, parentPath: 'nonexistent' })),
      goes_on: (await box.goesOn()) !== '',
      memory_equal: (await box.sum()) === before,
    };
    rmSync(images, { recursive: true, force: true });
    await runc.pause(box.id);
    await box.dump(images, { exit: false, paused: true });
    const frozen = box.last();
    await sleep(500);
    const stood = box.last() === frozen;
    await runc.resume(box.id);
    await box.afterResume?.();
    out['paused'] = {
      stood_still: stood,
      goes_on: (await box.goesOn()) !== '',
      memory_equal: (await box.sum()) === before,
    };
    rmSync(images, { recursive: true, force: true });
    process.kill(box.pid, 'SIGUSR2');
    await box.until(/^spinning /m);
    const began = performance.now();
    out['lock_times_out_under_load'] = {
      reason: await expectFailure(box.dump(images, { exit: false })),
      ms: Math.round(performance.now() - began),
      goes_on: (await box.goesOn()) !== '',
      memory_equal: (await box.sum()) === before,
    };
  } finally {
    await box.remove();
    rmSync(images, { recursive: true, force: true });
  }
  return out;
}

/** A restore onto a GPU that is full fails, leaves nothing, and works once there is room. */
async function full() {
  const images = join(WORK, 'images');
  const box = await new Container('full', hold('full', 4096)).start();
  const file = join(WORK, 'hog');
  try {
    await box.dump(images);
    const room = Math.floor(((await helper.gpus()).gpus[0]?.memoryBytes ?? 0) / 2 ** 20) - 3000;
    const args = ['--token', 'hog', '--file', `${file}.token`, '--out', file, '--mib', String(room)];
    const hog = spawn(join(pack, 'bin/hold'), args, { stdio: 'ignore' });
    try {
      for (
        let waited = 0;
        waited < 60_000 && !/^(ready|failed)/m.test(existsSync(file) ? readFileSync(file, 'utf8') : '');
        waited += 100
      )
        await sleep(100);
      const reason = await expectFailure(box.restore(images));
      const left = execFileSync('sh', ['-c', 'pgrep -fc "[h]old --token full" || true'], {
        encoding: 'utf8',
      }).trim();
      const ended = new Promise((resolve) => hog.once('exit', resolve));
      hog.kill('SIGKILL');
      await ended;
      await sleep(1000);
      await box.restore(images);
      return {
        reason,
        processes_left: Number(left),
        restored_later: (await box.goesOn()).includes(' gpu=full...'),
      };
    } finally {
      hog.kill('SIGKILL');
    }
  } finally {
    await box.remove();
    rmSync(images, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  rmSync(WORK, { recursive: true, force: true });
  mkdirSync(WORK, { recursive: true });
  const { driver, gpus } = await helper.gpus();
  const found: Record<string, unknown> = {
    date: new Date().toISOString(),
    commit,
    device: gpus.map(({ name, memoryBytes }) => ({ name, memory_bytes: memoryBytes })),
    driver,
    kernel: execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim(),
    images_in: 'tmpfs',
    sizes: [],
  };
  const save = () => writeFileSync(results, `${JSON.stringify(found, null, 2)}\n`);
  const section = async (name: string, work: () => Promise<unknown>) => {
    if (only && name !== only) return;
    process.stdout.write(`${name}\n`);
    const value = await work().catch((error: unknown) => ({ failed: failure(error) }));
    process.stdout.write(`${JSON.stringify(value)}\n`);
    if (name.startsWith('size')) (found['sizes'] as unknown[]).push(value);
    else found[name] = value;
    save();
  };
  await section('size 1', () => tokens(1));
  await section('model', model);
  await section('rollbacks', rollbacks);
  await section('full', full);
  if (gpus.length > 1) await section('other_gpu', otherGpu);
  for (const gib of [8, 32]) await section(`size ${gib}`, () => tokens(gib));
  helper.close();
  rmSync(WORK, { recursive: true, force: true });
}

await main();
process.exit(0);
