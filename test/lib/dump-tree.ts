/** A whole file tree as text: names as bytes, all of stat(2), extended attributes and content, which Node alone cannot read. */
import { run } from './program.ts';

const PROGRAM = `
import hashlib, json, os, stat, sys
root = os.fsencode(sys.argv[1])
began = int(sys.argv[2]) * 1000000
inodes = {}
def line(path):
    full = os.path.join(root, path)
    s = os.lstat(full)
    kind = stat.S_IFMT(s.st_mode)
    found = {'mode': oct(s.st_mode), 'owner': [s.st_uid, s.st_gid], 'mtime': s.st_mtime_ns if s.st_mtime_ns < began else 'now'}
    if kind in (stat.S_IFCHR, stat.S_IFBLK): found['device'] = [os.major(s.st_rdev), os.minor(s.st_rdev)]
    if kind == stat.S_IFLNK: found['target'] = os.readlink(full).hex()
    else: found['xattrs'] = {n: os.getxattr(full, n, follow_symlinks=False).hex() for n in sorted(os.listxattr(full, follow_symlinks=False))}
    if kind == stat.S_IFREG:
        with open(full, 'rb') as f: found['content'] = [s.st_size, hashlib.sha256(f.read()).hexdigest()]
        found['links'] = s.st_nlink
        # Two layers of an overlay may have the same number.
        found['same'] = inodes.setdefault((s.st_dev, s.st_ino), path.hex())
    return path.decode('latin1') + ' ' + json.dumps(found, sort_keys=True)
lines = []
for directory, names, files in os.walk(root):
    # So that the first name of an inode is the same one in every walk.
    names.sort(); files.sort()
    here = os.path.relpath(directory, root)
    if here == b'.': here = b''
    else: lines.append(line(here))
    lines += [line(os.path.join(here, n)) for n in files + [n for n in names if os.path.islink(os.path.join(directory, n))]]
print('\\n'.join(sorted(lines)))
`;

/** One line for each path below the root. Times of changes from `began` on (as Date.now) are not told apart. */
export async function dumpTree(root: string, began = Number.MAX_SAFE_INTEGER): Promise<string[]> {
  const { stdout } = await run('python3', ['-c', PROGRAM, root, String(began)], { timeoutMs: 120_000 });
  return stdout.split('\n').filter((line) => line !== '');
}
