/** A container on this machine through the shim's own code for dump and restore, with runc and CRIU. */
import { execFileSync } from 'node:child_process';
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
import { dumpPreparer } from '../../shim/checkpoint/index.ts';
import {
  attemptDeps,
  checkChain,
  editsOf,
  gpuRestores,
  planGiven,
  rootfsDeps,
  savedFacts,
} from '../../shim/restore/restoring.ts';
import { dump } from '../../shim/task/dump.ts';
import type { OciSpec } from '../../shim/task/oci-spec.ts';
import type { AfterResume } from '../../shim/task/start-plan.ts';
import { IMAGES, type Machine, WORK } from './machine.ts';
import { pageServed } from './page-served.ts';

/** The word of a pod that its processes share no GPU memory. */
export const INDEPENDENT = { 'thaw.dev/gpu-processes': 'independent' };

const DEVICE = /^nvidia(\d+|ctl|-uvm)$/;
const SYSTEM = ['usr', 'lib', 'lib64', 'bin', 'sbin', 'etc', 'opt'];

/** A container that has the machine's programs and GPUs, and a root file system of its own. */
export class Container {
  readonly #machine: Machine;
  readonly id: string;
  readonly bundle: string;
  readonly spec: OciSpec;
  pid = 0;
  afterResume: AfterResume | undefined;

  /** With these GPUs, or all. */
  constructor(machine: Machine, id: string, args: string[], minors?: number[]) {
    const { pack, runc } = machine;
    this.#machine = machine;
    this.id = id;
    this.bundle = join(WORK, id);
    mkdirSync(join(this.bundle, 'rootfs/pack'), { recursive: true });
    execFileSync(runc.config.binary, ['spec'], { cwd: this.bundle, env: runc.config.env });
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
      // NCCL has more in /dev/shm than the 64 MiB of runc's own spec.
      ...(spec.mounts ?? []).map((mount) => ({
        ...mount,
        options: (mount.options ?? []).map((option) => (option === 'size=65536k' ? 'size=1g' : option)),
      })),
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

  /** Before it is started: what the pod says, and what its processes find in their environment. */
  say(annotations: Record<string, string>, env: Record<string, string> = {}): this {
    const { spec } = this;
    const more = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    spec.annotations = { ...spec.annotations, ...annotations };
    spec.process = { ...spec.process, env: [...(spec.process?.env ?? []), ...more] };
    this.#write();
    return this;
  }

  /** Before it is started: these namespaces and folders are the machine's. */
  join(namespaces: string[], folders: string[]): void {
    const { linux = {}, mounts = [] } = this.spec;
    linux.namespaces = (linux.namespaces ?? []).filter(({ type }) => !namespaces.includes(type));
    this.spec.mounts = [
      ...mounts.filter(({ destination }) => !folders.includes(destination)),
      ...folders.map((path) => ({
        destination: path,
        source: path,
        type: 'bind',
        options: ['rbind', 'rw'],
      })),
    ];
    this.#write();
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
    this.#write();
  }

  #write(): void {
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
    const { runc } = this.#machine;
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
    const { runc, cuda, log } = this.#machine;
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
    const { runc, cuda, guardProgram, log } = this.#machine;
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
      ...rootfsDeps,
      checkImages: checkChain,
      prepareRecorded: () => pageServed(images, guardProgram),
      prepareGpu: gpuRestores({ daemonSocket: '', guardProgram, cuda }),
      savedFacts,
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

  /** With its images. */
  async remove(): Promise<void> {
    await this.#machine.runc.delete(this.id, true).catch(() => {});
    for (const path of [this.bundle, IMAGES]) rmSync(path, { recursive: true, force: true });
  }
}

/** What test/gpu/hold.cc does, in a container: a token in CPU memory, in a file and on the GPU, and so much GPU memory. */
export const hold = (token: string, mib: number, ...more: string[]) => [
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
