import { describe, expect, it } from 'vitest';
import { Code } from '../proto/status.ts';
import { readShmList, type ShmEntry, shmBytes, writeShmList } from './shm.ts';

const owner = { uid: 0, gid: 0 };
const file = (path: string, more: object = {}) =>
  ({ kind: 'file', path, mode: 0o600, ...owner, offset: 0, size: 10, ...more }) as ShmEntry;
const directory = (path: string) => ({ kind: 'directory', path, mode: 0o1777, ...owner }) as ShmEntry;
const symlink = (path: string, target: string) => ({ kind: 'symlink', path, ...owner, target }) as ShmEntry;

it('comes back as it was written', () => {
  const entries = [
    file('sem.a', { offset: 4096, size: 32 }),
    directory('d'),
    file('d/x'),
    { kind: 'link', path: 'd/y', to: 'sem.a' } as ShmEntry,
    symlink('s', '/etc/passwd'),
  ];
  expect(readShmList(writeShmList(entries), 4128)).toEqual(entries);
  expect(shmBytes(entries)).toBe(42);
});

describe('refuses', () => {
  it.each<[string, unknown[], RegExp]>([
    ['a path that leads out', [file('../x')], /entries\.0\.path/],
    ['an absolute path', [file('/x')], /entries\.0\.path/],
    ['a path through nothing', [file('a//x')], /entries\.0\.path/],
    ['a path with a zero byte', [file('a\0')], /entries\.0\.path/],
    ['a name that no file system takes', [file('é'.repeat(128))], /entries\.0\.path/],
    ['a parent that is a link', [symlink('d', '/etc'), file('d/x')], /in no listed directory/],
    ['a parent that is not there', [file('d/x')], /in no listed directory/],
    ['a name twice', [file('x'), file('x')], /listed twice/],
    ['a directory that was a file', [file('x'), directory('x')], /listed twice/],
    ['bytes behind the end', [file('x', { offset: 91 })], /ends behind the 100 bytes/],
    ['an offset behind the end', [file('x', { offset: 2 ** 52, size: 0 })], /ends behind/],
    ['a negative size', [file('x', { size: -1 })], /size/],
    ['a setuid file', [file('x', { mode: 0o4755 })], /mode/],
    ['an id that means "as it is"', [file('x', { uid: 0xffff_ffff })], /uid/],
    ['a link to a directory', [directory('d'), { kind: 'link', path: 'x', to: 'd' }], /no listed file/],
    ['a link to what comes later', [{ kind: 'link', path: 'x', to: 'y' }, file('y')], /no listed file/],
    ['an empty target', [symlink('x', '')], /can be no path/],
    ['a device', [{ kind: 'device', path: 'x', mode: 0o666, ...owner }], /entries\.0/],
  ])('%s', (_, entries, reason) => {
    const bytes = writeShmList(entries as ShmEntry[]);
    expect(() => readShmList(bytes, 100)).toThrow(expect.objectContaining({ code: Code.dataLoss }));
    expect(() => readShmList(bytes, 100)).toThrow(reason);
  });

  it('another version and what is no JSON', () => {
    expect(() => readShmList(Buffer.from('{"version":2,"entries":[]}'), 0)).toThrow(/version/);
    expect(() => readShmList(Buffer.from([0xff]), 0)).toThrow(/no JSON/);
  });
});
