import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { readBeneath, removeBeneath, writeBeneath } from './beneath.ts';

const rights = { mode: 0o400, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
let dir: string;
let root: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'beneath-'));
  root = join(dir, 'root');
  mkdirSync(root);
  mkdirSync(join(dir, 'outside'));
});
afterEach(() => rm(dir, { recursive: true }));

const write = (path: string, content = 'new', makeParents = true) =>
  writeBeneath({ root, path }, content, rights, makeParents, native);

describe('a file beneath a directory', () => {
  it('is written whole, with its rights, and its parents are made', () => {
    write('run/thaw/restore.json', 'first');
    write('run/thaw/restore.json', 'second');
    expect(readFileSync(join(root, 'run/thaw/restore.json'), 'utf8')).toBe('second');
    expect(statSync(join(root, 'run/thaw/restore.json')).mode & 0o777).toBe(0o400);
    expect(statSync(join(root, 'run/thaw')).mode & 0o777).toBe(0o755);
    expect(readdirSync(join(root, 'run/thaw'))).toEqual(['restore.json']);
    expect(readBeneath({ root, path: 'run/thaw/restore.json' }, native)?.toString()).toBe('second');
  });

  it('is not written where its parents are not to be made', () => {
    expect(() => write('missing/file', 'new', false)).toThrow(/ENOENT/);
    expect(existsSync(join(root, 'missing'))).toBe(false);
  });

  it('is removed, or was not there', () => {
    write('file');
    expect(removeBeneath({ root, path: 'file' }, native)).toBe(true);
    expect(removeBeneath({ root, path: 'file' }, native)).toBe(false);
    expect(removeBeneath({ root, path: 'missing/file' }, native)).toBe(false);
    expect(readBeneath({ root, path: 'file' }, native)).toBeUndefined();
  });

  it.each(['run', 'run/thaw'])('stays beneath it where %s is a link that leads out', (link) => {
    mkdirSync(join(root, link, '..'), { recursive: true });
    symlinkSync(join(dir, 'outside'), join(root, link));
    writeFileSync(join(dir, 'outside/restore.json'), 'old');
    const path = `${link}/restore.json`;
    expect(() => write(path)).toThrow(/ELOOP|ENOTDIR/);
    expect(() => readBeneath({ root, path }, native)).toThrow(/ELOOP/);
    expect(() => removeBeneath({ root, path }, native)).toThrow(/ELOOP|ENOTDIR/);
    expect(readFileSync(join(dir, 'outside/restore.json'), 'utf8')).toBe('old');
    expect(readdirSync(join(dir, 'outside'))).toEqual(['restore.json']);
  });

  it('takes the place of a link, and leaves alone what that led to', () => {
    writeFileSync(join(dir, 'outside/file'), 'old');
    symlinkSync(join(dir, 'outside/file'), join(root, 'file'));
    write('file');
    expect(lstatSync(join(root, 'file')).isFile()).toBe(true);
    expect(readFileSync(join(dir, 'outside/file'), 'utf8')).toBe('old');
  });

  it('cannot be named past it', () => {
    expect(() => write('../outside/file')).toThrow(/EXDEV/);
    expect(readdirSync(join(dir, 'outside'))).toEqual([]);
  });

  it('that is a directory or too long to be one of ours is none', () => {
    mkdirSync(join(root, 'directory'));
    expect(readBeneath({ root, path: 'directory' }, native)).toBeUndefined();
    expect(() => write('directory')).toThrow(/EISDIR/);
    expect(readdirSync(root)).toEqual(['directory']);
    writeFileSync(join(root, 'long'), Buffer.alloc((4 << 20) + 1));
    expect(readBeneath({ root, path: 'long' }, native)).toBeUndefined();
  });
});
