/** A container of the task service on fakes of the kernel, runc and containerd, in a bundle of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { Runc } from '../runc/runc.ts';
import { Container } from './container.ts';
import { FakeBus, FakeCgroups, FakeKernel, FakeProcesses, FakeRunc, silent } from './fakes.ts';
import type { OciSpec } from './oci-spec.ts';
import { defaultRuncOptions } from './options.ts';
import { plainDump } from './start-plan.ts';

export const rootfs = (source: string) => [{ type: 'overlay', source, target: '', options: ['lowerdir=/l'] }];
export const ownPids: OciSpec = { linux: { namespaces: [{ type: 'pid' }] } };
/** Lets everything that is ready run. */
export const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

export class ContainerBed {
  readonly bundle: string;
  readonly program = new FakeRunc();
  readonly processes = new FakeProcesses();
  readonly kernel = new FakeKernel(() => {
    throw new Error('No pipes without stdio');
  });
  readonly bus = new FakeBus();
  readonly cgroups = new FakeCgroups();

  private constructor(bundle: string) {
    this.bundle = bundle;
  }

  static async make(): Promise<ContainerBed> {
    return new ContainerBed(await mkdtemp(join(tmpdir(), 'container-')));
  }

  newContainer(spec: OciSpec = ownPids): Container {
    const logFile = join(this.bundle, 'log.json');
    return new Container(
      {
        id: 'c',
        namespace: 'default',
        bundle: this.bundle,
        spec,
        options: defaultRuncOptions,
        runc: new Runc({ binary: 'runc', root: '/r', systemdCgroup: false, env: {}, logFile }, this.program),
        stdio: { stdin: '', stdout: '', stderr: '', terminal: false },
      },
      {
        calls: this.kernel,
        watcher: this.processes,
        publish: this.bus.publish,
        prepareDump: plainDump,
        cgroups: this.cgroups,
        now: () => 5n,
        log: silent,
      },
    );
  }

  async remove(): Promise<void> {
    expect(this.kernel.mounted).toEqual([]);
    await rm(this.bundle, { recursive: true });
  }
}
