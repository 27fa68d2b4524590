import { describe, expect, it } from 'vitest';
import { containerd, runtimeoptions } from '../../proto/gen/shim.js';
import { Code } from '../../proto/status.ts';
import {
  decodeDumpOptions,
  decodeRuncOptions,
  defaultRuncOptions,
  isSystemdCgroupPath,
  type OptionsContext,
} from './options.ts';

const context: OptionsContext & { unknown: string[] } = {
  unknown: [],
  readConfig: async (path) => {
    if (path === '/etc/thaw.toml') return 'BinaryName = "/usr/bin/crun"';
    throw new Error('ENOENT');
  },
  onUnknown: (type) => context.unknown.push(type),
};
const cri = (options: { configPath?: string; configBody?: Uint8Array }) => ({
  type_url: 'runtimeoptions.v1.Options',
  value: runtimeoptions.v1.Options.encode(options).finish(),
});

describe('decodeRuncOptions', () => {
  it('reads the options of the runc shims, whatever stands before the type’s name', async () => {
    const value = containerd.runc.v1.Options.encode({
      root: '/r',
      systemdCgroup: true,
      ioUid: 5,
      criuWorkPath: '/w',
    }).finish();
    for (const type_url of ['containerd.runc.v1.Options', 'type.googleapis.com/containerd.runc.v1.Options'])
      expect(await decodeRuncOptions({ type_url, value }, context)).toEqual({
        ...defaultRuncOptions,
        root: '/r',
        systemdCgroup: true,
        ioUid: 5,
        criuWorkPath: '/w',
      });
  });

  it('reads CRI’s, in the message or in a file', async () => {
    const configBody = Buffer.from(
      'BinaryName = "runc-x"\nsystemdCgroup = true\nIoUid = 7\nCriuWorkPath = "/w"\nCriuPath = "/c"\nOther = 1',
    );
    expect(await decodeRuncOptions(cri({ configBody }), context)).toEqual({
      ...defaultRuncOptions,
      binaryName: 'runc-x',
      systemdCgroup: true,
      ioUid: 7,
      criuWorkPath: '/w',
    });
    expect(await decodeRuncOptions(cri({ configPath: '/etc/thaw.toml' }), context)).toMatchObject({
      binaryName: '/usr/bin/crun',
    });
    expect(await decodeRuncOptions(cri({}), context)).toEqual(defaultRuncOptions);
  });

  it('takes defaults for none, and for those of a type it does not know', async () => {
    expect(await decodeRuncOptions(undefined, context)).toEqual(defaultRuncOptions);
    const old = { type_url: 'containerd.linux.runc.CreateOptions', value: new Uint8Array() };
    expect(await decodeRuncOptions(old, context)).toEqual(defaultRuncOptions);
    expect(context.unknown).toEqual(['containerd.linux.runc.CreateOptions']);
  });

  it.each([
    ['NoPivotRoot = "yes"', 'NoPivotRoot = "yes", expected true or false'],
    ['BinaryName = 7', 'BinaryName = 7, expected a string'],
    ['IoUid = -1', 'IoUid = -1, expected a user or group id'],
    ['IoGid = 1.5', 'IoGid = 1.5, expected'],
    ['IoGid = 4294967296', 'IoGid'],
  ])('names the option that has a wrong value: %s', async (toml, message) => {
    await expect(decodeRuncOptions(cri({ configBody: Buffer.from(toml) }), context)).rejects.toMatchObject({
      code: Code.invalidArgument,
      message: expect.stringContaining(message),
    });
  });

  it('names a file that cannot be read', async () => {
    await expect(decodeRuncOptions(cri({ configPath: '/none.toml' }), context)).rejects.toMatchObject({
      code: Code.invalidArgument,
      message: expect.stringContaining('/none.toml'),
    });
  });

  it('refuses what cannot be decoded', async () => {
    const broken = { type_url: 'containerd.runc.v1.Options', value: Buffer.from([0x32, 0x7f]) };
    await expect(decodeRuncOptions(broken, context)).rejects.toMatchObject({ code: Code.invalidArgument });
    const configBody = Buffer.from('not = [toml');
    await expect(decodeRuncOptions(cri({ configBody }), context)).rejects.toMatchObject({
      code: Code.invalidArgument,
    });
  });
});

describe('isSystemdCgroupPath', () => {
  it('knows systemd’s form', () => {
    expect(isSystemdCgroupPath('kubepods-burstable-pod1.slice:cri-containerd:abc')).toBe(true);
    for (const path of ['/kubepods/pod1/abc', '', undefined, 'a:b:c'])
      expect(isSystemdCgroupPath(path)).toBe(false);
  });
});

describe('decodeDumpOptions', () => {
  it('reads what containerd sends and refuses other types', () => {
    const value = containerd.runc.v1.CheckpointOptions.encode({ exit: true, imagePath: '/i' }).finish();
    const any = { type_url: 'containerd.runc.v1.CheckpointOptions', value };
    expect(decodeDumpOptions(any)).toMatchObject({ exit: true, imagePath: '/i', emptyNamespaces: [] });
    expect(decodeDumpOptions(null)).toMatchObject({ exit: false });
    expect(() => decodeDumpOptions({ type_url: 'x.Y' })).toThrow(
      expect.objectContaining({ code: Code.invalidArgument }),
    );
  });
});
