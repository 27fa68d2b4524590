import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { ContainerBed, settle } from './container.test-helper.ts';
import type { Container } from './container.ts';

let bed: ContainerBed;
beforeEach(async () => {
  bed = await ContainerBed.make();
});
afterEach(() => bed.remove());

describe('execs', () => {
  async function running(): Promise<Container> {
    const container = bed.newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    await container.start();
    return container;
  }
  const stdio = { stdin: '', stdout: '', stderr: '', terminal: false };
  const spec = Buffer.from('{"args":["true"]}');

  it('are reported before the init that took them along', async () => {
    const container = await running();
    container.execs.add('e', spec, stdio);
    expect(await container.execs.start('e')).toBe(101);
    bed.processes.end(100, 0);
    await settle();
    expect(bed.bus.said).toEqual(['start', 'exec-added', 'exec-started']);
    bed.processes.end(101, 137);
    await container.init.exited;
    expect(bed.bus.said.slice(3)).toEqual(['exit e 137', 'exit c 0']);
    await expect(container.execs.start('e')).rejects.toMatchObject({ code: Code.failedPrecondition });
    expect(await container.execs.delete('e')).toMatchObject({ pid: 101, exit: { status: 137 } });
    expect(existsSync(join(bed.bundle, 'e.pid'))).toBe(false);
    await container.delete();
  });

  it('that are just being started hold the init’s exit back too', async () => {
    const container = await running();
    container.execs.add('e', spec, stdio);
    bed.program.failures.set('exec', 'cannot exec in a stopped container');
    bed.program.hooks.set('exec', async () => {
      bed.processes.end(100, 0);
      await settle();
      expect(bed.bus.said).toEqual(['start', 'exec-added']);
    });
    await expect(container.execs.start('e')).rejects.toThrow('cannot exec in a stopped container');
    await container.init.exited;
    expect(bed.bus.said).toEqual(['start', 'exec-added', 'exit c 0']);
    await container.delete();
  });

  it('that fail to start are over for whoever waits for them', async () => {
    const container = await running();
    container.execs.add('e', spec, stdio);
    const waiting = container.process('e').exited;
    bed.program.failures.set('exec', 'no such file or directory');
    await expect(container.execs.start('e')).rejects.toThrow('no such file or directory');
    expect(await waiting).toMatchObject({ status: 255 });
    expect(bed.bus.said).toEqual(['start', 'exec-added']);
    await container.execs.delete('e');
    expect(() => container.process('e')).toThrow(expect.objectContaining({ code: Code.notFound }));
  });

  it('run in a container that is created, and are refused where one is paused or over', async () => {
    const container = bed.newContainer();
    await container.create({ kind: 'cold', rootfs: [] });
    container.execs.add('early', spec, stdio);
    expect(await container.execs.start('early')).toBe(101);
    await container.start();
    await container.pause();
    expect(() => container.execs.add('e', spec, stdio)).toThrow('cannot exec in a paused state');
    await container.resume();
    bed.processes.end(101, 0);
    bed.processes.end(100, 0);
    await container.init.exited;
    expect(() => container.execs.add('e', spec, stdio)).toThrow('cannot exec in a stopped state');
    expect(bed.bus.said.filter((event) => event.startsWith('exec-added'))).toHaveLength(1);
  });

  it('need the JSON of a process', async () => {
    const container = await running();
    for (const text of ['', 'no JSON', 'null', '"text"'])
      expect(() => container.execs.add('e', Buffer.from(text), stdio), text).toThrow(
        expect.objectContaining({ code: Code.invalidArgument }),
      );
  });

  it('have ids of their own, which are safe as file names', async () => {
    const container = await running();
    container.execs.add('e', spec, stdio);
    expect(() => container.execs.add('e', spec, stdio)).toThrow(
      expect.objectContaining({ code: Code.alreadyExists }),
    );
    expect(() => container.execs.add('c', spec, stdio)).toThrow(
      expect.objectContaining({ code: Code.alreadyExists }),
    );
    expect(() => container.execs.add('../e', spec, stdio)).toThrow(
      expect.objectContaining({ code: Code.invalidArgument }),
    );
    expect(() => container.execs.kill('e', 9)).toThrow('process not created');
    expect(() => container.execs.kill('x', 9)).toThrow(expect.objectContaining({ code: Code.notFound }));
    bed.processes.end(100, 0);
    await container.init.exited;
    await container.delete();
  });
});
