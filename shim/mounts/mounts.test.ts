import { existsSync, fstatSync, openSync } from 'node:fs';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import type { MountCalls } from './mount-one.ts';
import { mountPointsBelow } from './mountinfo.ts';
import { overlayLayout, parseMountOptions } from './options.ts';
import { mountRootfs, unmountRootfs } from './rootfs.ts';

/** Records calls; `fail` decides which one fails and how. */
class FakeMounts implements MountCalls {
  readonly calls: unknown[][] = [];
  mounted = 0;
  fail: (call: unknown[]) => string | undefined = () => undefined;

  mount(...args: [string, string, string, number, string]): void {
    this.#record(['mount', ...args]);
    this.mounted += 1;
  }
  umount(...args: [string, number]): void {
    this.#record(['umount', ...args]);
    if (this.mounted === 0) throw Object.assign(new Error('umount'), { code: 'EINVAL' });
    this.mounted -= 1;
  }
  mountOverlay(...args: [string, string[], string, string, string[]]): void {
    this.#record(['mountOverlay', ...args]);
    this.mounted += 1;
  }
  loopAttach(...args: [string, boolean]): { device: string; fd: number } {
    this.#record(['loopAttach', ...args]);
    return { device: '/dev/loop7', fd: this.#open() };
  }
  userNamespace(...args: [string, string]): number {
    this.#record(['userNamespace', ...args]);
    return this.#open();
  }
  mountMapped(source: string, target: string): void {
    this.#record(['mountMapped', source, target]);
    this.mounted += 1;
  }
  readonly open: number[] = [];
  #open(): number {
    const fd = openSync('/dev/null', 'r');
    this.open.push(fd);
    return fd;
  }
  #record(call: unknown[]): void {
    this.calls.push(call);
    const code = this.fail(call);
    if (code) throw Object.assign(new Error(`${code}: call failed`), { code });
  }
}

describe('parseMountOptions', () => {
  it('splits flags, data and propagation', () => {
    expect(parseMountOptions(['nosuid', 'lowerdir=/a', 'ro', 'rw', 'rslave', 'index=off'])).toEqual({
      flags: 2,
      data: ['lowerdir=/a', 'index=off'],
      propagation: 0x84000,
      remount: 0,
      loop: false,
      idMap: undefined,
    });
  });

  it('makes a read-only bind mount in two steps', () => {
    expect(parseMountOptions(['rbind', 'ro'])).toEqual({
      flags: 0x5001,
      data: [],
      propagation: 0,
      remount: 0x1021,
      loop: false,
      idMap: undefined,
    });
  });

  it('reads loop and id maps', () => {
    expect(parseMountOptions(['loop', 'ro', 'uidmap=0:1000:10,10:5000:1', 'gidmap=0:2000:65536'])).toEqual({
      flags: 1,
      data: [],
      propagation: 0,
      remount: 0,
      loop: true,
      idMap: { users: '0 1000 10\n10 5000 1', groups: '0 2000 65536' },
    });
    for (const options of [
      ['uidmap=0:1:1'],
      ['uidmap=0:1', 'gidmap=0:1:1'],
      ['uidmap=0:1:-1', 'gidmap=0:1:1'],
    ])
      expect(() => parseMountOptions(options)).toThrow(
        expect.objectContaining({ code: Code.invalidArgument }),
      );
  });

  it('takes names of Object.prototype for data', () => {
    expect(parseMountOptions(['constructor']).data).toEqual(['constructor']);
  });
});

describe('overlayLayout', () => {
  it('finds the directories, also with colons in their names', () => {
    expect(overlayLayout(['workdir=/w', 'upperdir=/u', 'lowerdir=/a\\:b:/c', 'index=off'])).toEqual({
      lower: ['/a:b', '/c'],
      upper: '/u',
      work: '/w',
      rest: ['index=off'],
    });
  });
});

describe('mountPointsBelow', () => {
  it('knows a directory from its namesakes and undoes the escapes', () => {
    const line = (point: string) => `30 24 0:5 / ${point} rw shared:1 - tmpfs tmpfs rw`;
    const info = ['/b/rootfs', '/b/rootfs2', '/b/rootfs/a\\040b', '/b', '/b/rootfs'].map(line).join('\n');
    expect(mountPointsBelow(info, '/b/rootfs')).toEqual(['/b/rootfs', '/b/rootfs/a b', '/b/rootfs']);
  });
});

describe('mountRootfs', () => {
  let dir: string;
  let calls: FakeMounts;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'mounts-'));
    calls = new FakeMounts();
  });
  afterEach(() => rm(dir, { recursive: true }));
  const overlay = (options: string[]) => ({ type: 'overlay', source: 'overlay', target: '', options });

  it('passes a short overlay to mount(2) and a long one to the newer calls', async () => {
    await mountRootfs(
      [overlay(['lowerdir=/a:/b', 'upperdir=/u', 'workdir=/w'])],
      join(dir, 'r'),
      join(dir, 'layers'),
      calls,
    );
    expect(calls.calls).toEqual([
      ['mount', 'overlay', join(dir, 'r'), 'overlay', 0, 'lowerdir=/a:/b,upperdir=/u,workdir=/w'],
    ]);
    const lower = Array.from({ length: 100 }, (_, i) => `/var/lib/thaw/snapshots/${i}/${'x'.repeat(40)}`);
    await mountRootfs(
      [overlay([`lowerdir=${lower.join(':')}`, 'index=off'])],
      join(dir, 'r'),
      join(dir, 'layers'),
      calls,
    );
    expect(calls.calls[1]).toEqual(['mountOverlay', join(dir, 'r'), lower, '', '', ['index=off']]);
  });

  it('takes away what it mounted when a later mount fails', async () => {
    calls.fail = (call) => (call[3] === 'ext4' ? 'ENODEV' : undefined);
    const mounts = [overlay(['lowerdir=/a']), { type: 'ext4', source: '/dev/x', target: '', options: [] }];
    await expect(mountRootfs(mounts, dir, join(dir, 'layers'), calls)).rejects.toMatchObject({
      code: Code.unknown,
      message: 'failed to mount rootfs component: ENODEV: call failed',
    });
    expect(calls.mounted).toBe(0);
  });

  const expectClosed = () => {
    for (const fd of calls.open) expect(() => fstatSync(fd)).toThrow('EBADF');
    expect(calls.open.length).toBeGreaterThan(0);
  };

  it('makes a loop device where it is asked to', async () => {
    const mount = { type: 'erofs', source: '/snapshots/7/layer.erofs', target: '', options: ['ro', 'loop'] };
    await mountRootfs([mount], join(dir, 'r'), join(dir, 'layers'), calls);
    expect(calls.calls).toEqual([
      ['loopAttach', '/snapshots/7/layer.erofs', true],
      ['mount', '/dev/loop7', join(dir, 'r'), 'erofs', 1, ''],
    ]);
    expectClosed();
  });

  it('maps the layers of an overlay, and a bind mount as a whole', async () => {
    const map = ['uidmap=0:1000:65536', 'gidmap=0:1000:65536'];
    const layers = join(dir, 'layers');
    await mountRootfs(
      [overlay(['ro', 'nodev', 'lowerdir=/b:/a', 'upperdir=/u', 'workdir=/w', ...map])],
      dir,
      layers,
      calls,
    );
    expect(calls.calls).toEqual([
      ['userNamespace', '0 1000 65536', '0 1000 65536'],
      ['mountMapped', '/b', join(layers, '0')],
      ['mountMapped', '/a', join(layers, '1')],
      ['mountOverlay', dir, [join(layers, '0'), join(layers, '1')], '/u', '/w', ['ro', 'nodev']],
      ['umount', join(layers, '0'), 2],
      ['umount', join(layers, '1'), 2],
    ]);
    expect(existsSync(layers)).toBe(false);
    calls.calls.length = 0;
    const bind = { type: 'bind', source: '/a', target: '', options: ['rbind', 'ro', ...map] };
    await mountRootfs([bind], dir, layers, calls);
    expect(calls.calls.map(([name]) => name)).toEqual(['userNamespace', 'mount', 'mount', 'mountMapped']);
    expectClosed();
  });

  it('leaves no layer where one cannot be mapped', async () => {
    const layers = join(dir, 'layers');
    calls.fail = (call) => (call[1] === '/a' ? 'EPERM' : undefined);
    const mount = overlay(['lowerdir=/b:/a', 'uidmap=0:1000:1', 'gidmap=0:1000:1']);
    await expect(mountRootfs([mount], dir, layers, calls)).rejects.toThrow('EPERM');
    expect(calls.mounted).toBe(0);
    expect(existsSync(layers)).toBe(false);
    expectClosed();
  });

  it('does not follow links of the image', async () => {
    await symlink('/etc', join(dir, 'link'));
    const mount = { type: 'tmpfs', source: 'tmpfs', options: [] };
    for (const target of ['link', '../x', 'missing'])
      await expect(
        mountRootfs([{ ...mount, target }], dir, join(dir, 'layers'), calls),
      ).rejects.toMatchObject({
        code: Code.invalidArgument,
      });
    expect(calls.mounted).toBe(0);
  });

  it('has nothing to do without mounts, and unmounting is idempotent', async () => {
    await mountRootfs([], join(dir, 'r'), join(dir, 'layers'), calls);
    await unmountRootfs(join(dir, 'r'), calls);
    await unmountRootfs(join(dir, 'r'), calls);
    expect(calls.mounted).toBe(0);
  });
});
