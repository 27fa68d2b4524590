/** File trees as values, and changes to them, for comparing what layers show. */
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

export type Change = (root: string) => void;

export const apply =
  (...changes: Change[]): Change =>
  (root) => {
    for (const change of changes) change(root);
  };
export const createFile =
  (path: string, content: string, mode: number): Change =>
  (root) => {
    writeFileSync(join(root, path), content);
    chmodSync(join(root, path), mode);
  };
export const createDir =
  (path: string, mode: number): Change =>
  (root) => {
    mkdirSync(join(root, path), { recursive: true });
    chmodSync(join(root, path), mode);
  };
export const removeAll =
  (path: string): Change =>
  (root) =>
    rmSync(join(root, path), { recursive: true, force: true });
export const chown =
  (path: string, uid: number, gid: number): Change =>
  (root) =>
    chownSync(join(root, path), uid, gid);
export const link =
  (from: string, to: string): Change =>
  (root) =>
    linkSync(join(root, from), join(root, to));
export const symlink =
  (target: string, path: string): Change =>
  (root) =>
    symlinkSync(target, join(root, path));
export const rename =
  (from: string, to: string): Change =>
  (root) =>
    renameSync(join(root, from), join(root, to));

/** A small root file system with all that layers trip over. */
export const baseTree = apply(
  createDir('/etc', 0o755),
  createFile('/etc/hosts', '127.0.0.1 localhost', 0o644),
  createDir('/usr/local/lib', 0o755),
  createFile('/usr/local/lib/libnothing.so', '\0\0', 0o755),
  // Never changed above: overlay without an index breaks links when it copies a file up.
  link('/usr/local/lib/libnothing.so', '/usr/local/lib/libnothing.so.1'),
  symlink('libnothing.so', '/usr/local/lib/libnothing.so.2'),
  createDir('/home', 0o755),
  createDir('/home/derek', 0o700),
  createFile('/home/derek/.bashrc', '#!/bin/sh', 0o640),
  chown('/home/derek', 1000, 1000),
);

/** Every path below (and of) a root with type, mode, owner and content. Equal trees give equal values. */
export function readTree(root: string): Record<string, string> {
  const found: Record<string, string> = {};
  const visit = (path: string) => {
    const full = join(root, path);
    const stat = lstatSync(full);
    const owner = `${(stat.mode & 0o7777).toString(8)} ${stat.uid}:${stat.gid}`;
    if (stat.isDirectory()) {
      found[path] = `directory ${owner}`;
      for (const name of readdirSync(full).sort()) visit(join(path, name));
    } else if (stat.isSymbolicLink()) {
      found[path] = `link ${readlinkSync(full)}`;
    } else if (stat.isFile()) {
      found[path] = `file ${owner} ${readFileSync(full).toString('base64')}`;
    } else {
      found[path] = `special ${owner} ${stat.rdev}`;
    }
  };
  visit('/');
  return found;
}
