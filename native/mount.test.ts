import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { native } from './index.ts';
import { runNode, temporaryFolder } from './testing.ts';

/**
 * Runs the text in a mount namespace of its own, with an empty tmpfs as `root` and mk(name) to make a folder in it.
 * Needs root, or a kernel that lets users make user namespaces.
 */
async function inNamespace(source: string): Promise<unknown> {
  const root = join(temporaryFolder(), 'root');
  mkdirSync(root);
  const user = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  const output = await runNode(
    `import { execFileSync } from 'node:child_process';
    import { chownSync, closeSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
    const root = ${JSON.stringify(root)};
    native.mount('tmpfs', root, 'tmpfs', 0, 'mode=700');
    const mk = (name) => { mkdirSync(root + '/' + name, { recursive: true }); return root + '/' + name; };
    const caught = (f) => { try { f(); return 'nothing'; } catch (e) { return e.message.replaceAll(root, ''); } };
    const result = (() => { ${source} })();
    native.umount(root, 2);
    console.log(JSON.stringify({ result, left: readdirSync(root) }));`,
    ['unshare', ...user, '--mount', '--propagation', 'private'],
  );
  expect(existsSync(join(root, 'anything'))).toBe(false);
  const { result, left } = JSON.parse(output) as { result: unknown; left: string[] };
  expect(left).toEqual([]);
  return result;
}

const odd = [
  'plain',
  'with space',
  'a:b',
  'a,b',
  'back\\slash',
  'all\\:\\,of:them,',
  `${'long'.repeat(60)}/${'x'.repeat(60)}`,
];

test.each(odd)('mountOverlay takes directories named %s', async (name) => {
  const result = await inNamespace(`
    const name = ${JSON.stringify(name)};
    const [top, low, up, work, on] = ['top', 'low', 'up', 'work', 'on'].map((part) => mk(name + '/' + part));
    writeFileSync(low + '/low', 'low'); writeFileSync(low + '/both', 'low'); writeFileSync(top + '/both', 'top');
    native.mountOverlay(on, [top, low], up, work, ['nosuid', 'index=off']);
    writeFileSync(on + '/new', '');
    const seen = { files: readdirSync(on), both: readFileSync(on + '/both', 'utf8'), up: readdirSync(up) };
    native.umount(on, 0);
    return { ...seen, after: readdirSync(on) };`);
  expect(result).toEqual({ files: ['both', 'low', 'new'], both: 'top', up: ['new'], after: [] });
});

test('mountOverlay takes more layers than an option string holds, read-only', async () => {
  const result = await inNamespace(`
    const layers = Array.from({ length: 300 }, (_, i) => mk('snapshots-of-this-node/' + i + '/fs'));
    layers.forEach((layer, i) => writeFileSync(layer + '/' + i, ''));
    const on = mk('on');
    native.mountOverlay(on, layers, '', '', ['ro', 'nodev']);
    const count = readdirSync(on).length;
    const error = caught(() => writeFileSync(on + '/new', '')).split(',')[0];
    const flags = readFileSync('/proc/self/mountinfo', 'utf8').split('\\n').find((l) => l.includes(on + ' ')).split(' ')[5];
    native.umount(on, 0);
    return { count, error, flags };`);
  expect(result).toEqual({
    count: 300,
    error: 'EROFS: read-only file system',
    flags: expect.stringMatching(/^ro,nodev/),
  });
});

test('mountOverlay keeps the line in mountinfo short enough for CRIU', async () => {
  const result = await inNamespace(`
    const layers = Array.from({ length: 127 }, (_, i) => mk('a-snapshotter-with-a-long-name/snapshots/' + i + '/fs'));
    layers.forEach((layer, i) => writeFileSync(layer + '/' + i, ''));
    const [up, work, on] = ['up', 'work', 'on'].map(mk);
    native.mountOverlay(on, layers, up, work, []);
    const line = readFileSync('/proc/self/mountinfo', 'utf8').split('\\n').find((l) => l.includes(on + ' '));
    const count = readdirSync(on).length;
    native.umount(on, 0);
    return { count, short: line.length < 4000 };`);
  expect(result).toEqual({ count: 127, short: true });
});

test('mountOverlay says what was wrong, and mounts nothing', async () => {
  const result = await inNamespace(`
    const [a, b, up, work, on] = ['a', 'b', 'up', 'work', 'on'].map(mk);
    const errors = [
      caught(() => native.mountOverlay(on, [a, root + '/missing'], up, work, [])),
      caught(() => native.mountOverlay(on, [a, b], up, work, ['bogus=1'])),
      caught(() => native.mountOverlay(root + '/nowhere', [a, b], up, work, [])),
      caught(() => native.mountOverlay(on, [a, root + '/miss:ing'], up, work, [])),
    ];
    return { errors, mounts: readFileSync('/proc/self/mountinfo', 'utf8').includes(' overlay ' + root) };`);
  expect(result).toEqual({
    errors: [
      expect.stringMatching(/^ENOENT: no such file or directory, \w+ '\/on'/),
      expect.stringMatching(/^EINVAL: invalid argument, \w+ '\/on'/),
      expect.stringMatching(/^ENOENT: no such file or directory, \w+ '\/nowhere'/),
      "ENOENT: no such file or directory, open '/miss:ing'",
    ],
    mounts: false,
  });
});

test('mount binds and umount takes away', async () => {
  const result = await inNamespace(`
    const [from, to] = ['from', 'to'].map(mk);
    writeFileSync(from + '/file', '');
    native.mount(from, to, '', 4096, '');
    const bound = readdirSync(to);
    native.umount(to, 0);
    return { bound, after: readdirSync(to), error: caught(() => native.umount(to, 0)) };`);
  expect(result).toEqual({ bound: ['file'], after: [], error: "EINVAL: invalid argument, umount2 '/to'" });
});

test('mount refuses an option string that the kernel would cut', () => {
  expect(() => native.mount('x', '/nonexistent', 'tmpfs', 0, 'a'.repeat(70_000))).toThrow(
    "E2BIG: argument list too long, mount '/nonexistent': the option string exceeds one page",
  );
});

test.skipIf(process.getuid?.() !== 0)('loopAttach makes a device that goes with its mount', async () => {
  const result = await inNamespace(`
    const file = root + '/disk';
    writeFileSync(file, '');
    execFileSync('truncate', ['-s', '2M', file]);
    execFileSync('mkfs.ext4', ['-q', file]);
    const on = mk('on');
    const attached = () => readdirSync('/sys/block').filter((name) => {
      try { return readFileSync('/sys/block/' + name + '/loop/backing_file', 'utf8').includes(root + '/disk'); }
      catch { return false; }
    });
    const { device, fd } = native.loopAttach(file, true);
    native.mount(device, on, 'ext4', 1, '');
    closeSync(fd);
    const seen = { files: readdirSync(on), attached: attached().map((name) => '/dev/' + name === device) };
    const denied = caught(() => writeFileSync(on + '/new', ''));
    native.umount(on, 0);
    const { fd: unused } = native.loopAttach(file, false);
    closeSync(unused);
    return { ...seen, denied, after: attached(), missing: caught(() => native.loopAttach(root + '/none', true)) };`);
  expect(result).toEqual({
    files: ['lost+found'],
    attached: [true],
    denied: "EROFS: read-only file system, open '/on/new'",
    after: [],
    missing: "ENOENT: no such file or directory, open '/none'",
  });
});

test.skipIf(process.getuid?.() !== 0)('mountMapped shows files as those of other users', async () => {
  const result = await inNamespace(`
    const layer = mk('layer'), on = mk('on');
    writeFileSync(layer + '/file', '');
    chownSync(layer + '/file', 1, 2);
    const users = native.userNamespace('0 100000 10', '0 200000 10');
    native.mountMapped(layer, on, users);
    closeSync(users);
    const owner = (path) => { const { uid, gid } = statSync(path); return [uid, gid]; };
    const seen = { mapped: owner(on + '/file'), root: owner(on), layer: owner(layer + '/file') };
    native.umount(on, 0);
    return {
      ...seen,
      children: native.children(),
      wrong: caught(() => native.userNamespace('0 0', '0 0 1')).split(',')[0],
    };`);
  expect(result).toEqual({
    mapped: [100001, 200002],
    root: [100000, 200000],
    layer: [1, 2],
    children: [],
    wrong: 'EINVAL: invalid argument',
  });
});
