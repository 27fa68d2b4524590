import { closeSync, constants, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { native } from './index.ts';
import { openDescriptors, temporaryFolder } from './testing.ts';

const { O_CREAT, O_EXCL, O_RDONLY, O_WRONLY } = constants;

function tree(): string {
  const folder = join(temporaryFolder(), 'tree');
  mkdirSync(join(folder, 'in/deep'), { recursive: true });
  writeFileSync(join(folder, '../outside'), 'outside');
  writeFileSync(join(folder, 'in/deep/file'), 'inside');
  symlinkSync('/etc/passwd', join(folder, 'absolute'));
  symlinkSync('in/deep/file', join(folder, 'harmless'));
  symlinkSync('in', join(folder, 'folder'));
  return folder;
}

test('openBeneath opens what lies below', () => {
  const fd = native.openBeneath(tree(), 'in/deep/file', O_RDONLY, 0);
  expect(readFileSync(fd, 'utf8')).toBe('inside');
  closeSync(fd);
});

test('openBeneath creates with the mode given', () => {
  const folder = tree();
  closeSync(native.openBeneath(folder, 'in/new', O_WRONLY | O_CREAT | O_EXCL, 0o600));
  expect(statSync(join(folder, 'in/new')).mode & 0o777).toBe(0o600);
  expect(() => native.openBeneath(folder, 'in/new', O_WRONLY | O_CREAT | O_EXCL, 0o600)).toThrow(/^EEXIST: /);
});

test('openBeneath gives descriptors that no child inherits', () => {
  const fd = native.openBeneath(tree(), 'in/deep/file', O_RDONLY, 0);
  expect(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')).toMatch(/flags:\s+02/);
  closeSync(fd);
});

test.each([
  ['../outside', 'EXDEV'],
  ['in/../../outside', 'EXDEV'],
  ['/etc/passwd', 'EXDEV'],
  ['absolute', 'ELOOP'],
  ['harmless', 'ELOOP'],
  ['folder/deep/file', 'ELOOP'],
  ['in/missing', 'ENOENT'],
  ['in/deep/file/x', 'ENOTDIR'],
])('openBeneath refuses %s with %s', (path, code) => {
  const folder = tree();
  const before = openDescriptors();
  let caught: unknown;
  try {
    native.openBeneath(folder, path, O_RDONLY, 0);
  } catch (error) {
    caught = error;
  }
  expect(caught).toMatchObject({ code, syscall: 'openat2', path: `${folder}/${path}` });
  expect(openDescriptors()).toBe(before);
});

test('a name that holds a NUL is refused, not cut', () => {
  expect(() => native.openBeneath(tree(), 'in/deep/file\0.txt', O_RDONLY, 0)).toThrow(
    'Cannot use argument 2, expected a string without NUL characters',
  );
});

test('a missing folder is named', () => {
  expect(() => native.openBeneath('/nonexistent/thaw', 'x', O_RDONLY, 0)).toThrow(
    "ENOENT: no such file or directory, open '/nonexistent/thaw'",
  );
});
