import { describe, expect, it } from 'vitest';
import { erofsImage } from './erofs-image.ts';
import { fileAt, filesOf } from './erofs-reader.ts';
import { type LayerTree, layerTree, type TreeNode } from './layer-tree.ts';
import { MergedDirectories } from './merged-directories.ts';
import { readerOf, type TestMember, tarOf } from './tar.test-helper.ts';
import { readTar } from './tar-reader.ts';

const tree = (members: readonly TestMember[], below = new MergedDirectories()): Promise<LayerTree> =>
  layerTree(readTar(readerOf(tarOf(members))), (path) => below.find(path));

function at({ root }: LayerTree, path: string): TreeNode | undefined {
  let node: TreeNode | undefined = root;
  for (const name of path.split('/')) node = node?.kind === 'directory' ? node.children.get(name) : undefined;
  return node;
}

const text = (content: string) => ({ content: Buffer.from(content) });

describe('a layer as overlayfs is to see it', () => {
  it('has whiteouts as devices and opaque directories, and keeps what it brings itself', async () => {
    const layer = await tree([
      { name: 'etc/', type: '5', mode: 0o755 },
      { name: 'etc/.wh.gone' },
      { name: 'var/.wh..wh..opq' },
      { name: 'etc/kept', ...text('new') },
      { name: 'etc/.wh.kept' },
      { name: 'etc/.wh..wh.plnk/1.2', ...text('aufs') },
    ]);
    expect(at(layer, 'etc/gone')).toMatchObject({
      kind: 'device',
      type: 'char',
      major: 0,
      minor: 0,
      mode: 0,
    });
    expect(at(layer, 'etc/kept')).toMatchObject({ kind: 'file', size: 3 });
    expect(at(layer, 'var')).toMatchObject({ kind: 'directory', opaque: true });
    expect([...((at(layer, 'etc') as { children: Map<string, unknown> }).children.keys() ?? [])]).toEqual([
      'gone',
      'kept',
    ]);
  });

  it('gives parents that it lacks what they have below, or nothing special', async () => {
    const below = new MergedDirectories();
    below.add(await tree([{ name: 'opt/', type: '5', mode: 0o2750, uid: 7, mtime: 1234 }]));
    const layer = await tree(
      [
        { name: 'opt/tool/run', ...text('x') },
        { name: 'srv/data', ...text('y') },
      ],
      below,
    );
    expect(at(layer, 'opt')).toMatchObject({ mode: 0o2750, uid: 7, mtime: { seconds: 1234n } });
    expect(at(layer, 'opt/tool')).toMatchObject({ mode: 0o755, uid: 0 });
    expect(at(layer, 'srv')).toMatchObject({ mode: 0o755, uid: 0 });
  });

  it('forgets directories below that a layer replaced or hid', async () => {
    const below = new MergedDirectories();
    below.add(
      await tree([
        { name: 'a/b/', type: '5', mode: 0o700 },
        { name: 'c/d/', type: '5', mode: 0o700 },
        { name: 'e/', type: '5', mode: 0o700 },
      ]),
    );
    below.add(
      await tree([{ name: 'a/.wh..wh..opq' }, { name: 'c/.wh.d' }, { name: 'e', ...text('file') }], below),
    );
    for (const path of [['a', 'b'], ['c', 'd'], ['e']]) expect(below.find(path)).toBeUndefined();
    expect(below.find(['a'])).toBeDefined();
  });

  it('knows no parents above a layer that could not be read', async () => {
    const below = new MergedDirectories();
    below.addUnknown();
    await expect(tree([{ name: 'a/b', ...text('') }], below)).rejects.toThrow('lacks a parent directory');
    await tree(
      [
        { name: 'a/', type: '5' },
        { name: 'a/b', ...text('') },
      ],
      below,
    );
  });

  it('has one inode for all names of a file', async () => {
    const layer = await tree([
      { name: 'one', ...text('same') },
      { name: 'two', type: '1', linkName: 'one', uid: 5 },
      { name: 'three', type: '1', linkName: './two' },
    ]);
    expect(at(layer, 'two')).toBe(at(layer, 'one'));
    expect(at(layer, 'three')).toBe(at(layer, 'one'));
  });

  it('has the later of two entries of one name, but goes on in a directory', async () => {
    const layer = await tree([
      { name: 'x', ...text('old') },
      { name: 'x', ...text('newer') },
      { name: 'd/', type: '5', mode: 0o700 },
      { name: 'd/in', ...text('in') },
      { name: 'd/', type: '5', mode: 0o711 },
    ]);
    expect(at(layer, 'x')).toMatchObject({ size: 5 });
    expect(at(layer, 'd')).toMatchObject({ mode: 0o711 });
    expect(at(layer, 'd/in')).toBeDefined();
  });

  it.each([
    ['a link to what it lacks', [{ name: 'a', type: '1', linkName: 'b' }], 'hard link'],
    ['a path that leads upwards', [{ name: '../a', ...text('') }], 'upwards'],
    [
      'a path through a link',
      [
        { name: 'l', type: '2', linkName: 'd' },
        { name: 'l/a', ...text('') },
      ],
      'no directory',
    ],
    ['a sparse file', [{ name: 's', pax: { 'GNU.sparse.major': '1' } }], 'sparse'],
    ['an unknown type', [{ name: 's', type: 'M' }], 'type "M"'],
  ] as [string, TestMember[], string][])('is refused with %s', async (_, members, why) => {
    await expect(tree(members)).rejects.toThrow(why);
  });
});

describe('a tar', () => {
  it('has long names, large numbers and attributes in pax headers', async () => {
    const name = `${'d'.repeat(120)}/\xff\xfe`;
    const pax = {
      path: name,
      uid: '4000000000',
      mtime: '-1.5',
      'SCHILY.xattr.user.a': 'b\0c',
      'SCHILY.xattr.security.capability': '\x01\0',
    };
    const layer = await tree([{ name: 'short', pax, ...text('x') }]);
    const node = at(layer, name);
    expect(node).toMatchObject({ uid: 4_000_000_000, mtime: { seconds: -2n, nanoseconds: 500_000_000 } });
    expect([...(node?.xattrs ?? [])]).toEqual([
      ['user.a', Buffer.from('b\0c')],
      ['security.capability', Buffer.from('\x01\0', 'latin1')],
    ]);
  });

  it('is refused where it is cut off, or a header was changed', async () => {
    const tar = tarOf([{ name: 'a', ...text('x') }]);
    const read = async (bytes: Buffer) => {
      for await (const _ of readTar(readerOf(bytes)));
    };
    await read(tar);
    await expect(read(tar.subarray(0, 700))).resolves.toBeUndefined();
    await expect(read(tar.subarray(0, 300))).rejects.toThrow('cut off');
    const changed = Buffer.from(tar);
    changed[0] = 0x62;
    await expect(read(changed)).rejects.toThrow('wrong sum');
  });
});

const DIFF_ID = `sha256:${'0123456789abcdef'.repeat(4)}`;

describe('the EROFS image of a layer', () => {
  it('says of each file where its content lies in the tar', async () => {
    const members: TestMember[] = [
      { name: 'a/one', content: Buffer.alloc(700, 1) },
      { name: 'empty', ...text('') },
      { name: 'a/two', content: Buffer.alloc(5, 2), pax: { 'SCHILY.xattr.user.k': 'value' } },
    ];
    // Enough for several blocks of names.
    for (let i = 0; i < 200; i++) members.push({ name: `many/file-${i}`, ...text(`content ${i}`) });
    const tar = tarOf(members);
    const image = erofsImage(await layerTree(readTar(readerOf(tar)), () => undefined), tar.length, DIFF_ID);
    const found = new Map([...filesOf(image)].map((file) => [file.path, file]));
    const full = members.filter(({ content }) => content && content.length > 0);
    expect([...found.keys()].sort()).toEqual(full.map(({ name }) => name).sort());
    for (const { name, content } of full) {
      const { offset = 0, size = 0 } = found.get(name) ?? {};
      expect(tar.subarray(offset, offset + size).equals(content ?? Buffer.alloc(0)), name).toBe(true);
      expect(fileAt(image, offset + size - 1)).toBe(name);
    }
    expect(fileAt(image, 0)).toBeUndefined();
  });

  it('is the same for the same layer', async () => {
    const make = async () =>
      erofsImage(
        await tree([
          { name: 'b', ...text('x') },
          { name: 'a', ...text('y') },
        ]),
        4096,
        DIFF_ID,
      );
    expect((await make()).equals(await make())).toBe(true);
    // Its UUID, which overlayfs wants (linux, fs/erofs/erofs_fs.h).
    expect((await make()).toString('hex', 1024 + 48, 1024 + 64)).toBe('0123456789abcdef'.repeat(2));
  });
});
