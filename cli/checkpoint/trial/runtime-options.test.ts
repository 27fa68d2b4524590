import { expect, it } from 'vitest';
import { messageType } from '../../containerd/protos.ts';
import { trialOptions } from './runtime-options.ts';

const runc = messageType('../runc/v1/options.proto', 'containerd.runc.v1.Options');
const runtime = messageType('../runtimeoptions/v1/options.proto', 'runtimeoptions.v1.Options');
const paths = { imagePath: '/images', workPath: '/work' };
const read = async (source: Parameters<typeof trialOptions>[0]) => {
  const made = await trialOptions(source, paths);
  expect(made.type_url).toBe('containerd.runc.v1.Options');
  return runc.deserialize(made.value);
};
const added = { criuImagePath: '/images', criuWorkPath: '/work' };

it('names the images where the source has no options', async () => {
  expect(await read(undefined)).toMatchObject({ ...added, systemdCgroup: false });
});

it('keeps the options of the source, but for its paths of CRIU', async () => {
  const value = runc.serialize({ systemdCgroup: true, binaryName: 'crun', criuWorkPath: '/theirs' });
  expect(await read({ type_url: 'x/containerd.runc.v1.Options', value })).toMatchObject({
    ...added,
    systemdCgroup: true,
    binaryName: 'crun',
  });
});

it('reads the TOML that CRI sends to runtimes that it does not know', async () => {
  const configBody = Buffer.from(
    'SystemdCgroup = true\nRoot = "/state"\nCriuWorkPath = "/theirs"\nOther = 1\n',
  );
  const value = runtime.serialize({ typeUrl: 't', configBody });
  expect(await read({ type_url: 'runtimeoptions.v1.Options', value })).toMatchObject({
    ...added,
    systemdCgroup: true,
    root: '/state',
  });
});

it('refuses options that it cannot read', async () => {
  await expect(trialOptions({ type_url: 'other', value: Buffer.alloc(0) }, paths)).rejects.toThrow(/other/);
});
