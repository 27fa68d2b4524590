import { expect, it } from 'vitest';
import { hookMounts, hookObstacles, savingObstacle } from './nvidia-mounts.ts';

const line = (point: string, i: number) => `${i + 100} 90 0:${i} / ${point} rw - tmpfs tmpfs rw`;
const mountinfo = (...points: string[]) => `${['/', '/proc', ...points].map(line).join('\n')}\n`;
const CUDA = '/usr/lib64/libcuda.so.580.159.04';
const HIDING = ['/run/nvidia-ctk-hook/5d3c', '/proc/driver/nvidia/params'];

it('finds nothing where all mounts are of the spec, also through a link and as a device', () => {
  const spec = {
    mounts: [
      { destination: '/lib64/libcuda.so.580.159.04' },
      { destination: '/run/nvidia-persistenced/socket' },
    ],
    linux: { devices: [{ path: '/dev/nvidia0' }] },
  };
  const found = hookMounts(mountinfo(CUDA, '/run/nvidia-persistenced/socket', '/dev/nvidia0', '/data'), spec);
  expect(found).toEqual({ needless: [], needed: [] });
  expect(savingObstacle(found)).toBeUndefined();
});

it('leaves out what hides the settings of the driver', () => {
  const found = hookMounts(mountinfo(...HIDING), {});
  expect(found).toEqual({ needless: HIDING, needed: [] });
  expect(savingObstacle(found)).toBeUndefined();
  // One that the pod has itself is saved as any other.
  expect(
    hookMounts(mountinfo(...HIDING), { mounts: HIDING.map((destination) => ({ destination })) }),
  ).toEqual({
    needless: [],
    needed: [],
  });
});

it('says of legacy mode what it mounts and what to do', () => {
  const found = hookMounts(
    mountinfo(CUDA, '/usr/bin/nvidia-smi', '/proc/driver/nvidia', '/dev/nvidiactl'),
    {},
  );
  expect(found.needless).toEqual(['/proc/driver/nvidia']);
  expect(savingObstacle(found)).toMatch(/^a hook has mounted \S+ and 2 more .*legacy mode.*mode = "cdi"/);
});

it('puts no name into the configuration that says more than a path', () => {
  const points = [
    '/run/nvidia-ctk-hook/a\\012libdir',
    '/run/nvidia-ctk-hook/a\\040b',
    '/run/nvidia-ctk-hooks',
  ];
  const { needless, needed } = hookMounts(mountinfo(...points), {});
  expect(needless).toEqual([]);
  expect(needed).toHaveLength(3);
});

it.each([
  ['/usr/bin/nvidia-container-runtime-hook', 'prestart', 1],
  ['/usr/bin/nvidia-container-toolkit', 'createRuntime', 1],
  ['/usr/bin/nvidia-cdi-hook', 'prestart', 0],
  ['/usr/bin/nvidia-ctk', 'createRuntime', 0],
] as const)('of hooks, %s as %s obstructs a restore: %i', (path, name, count) => {
  expect(hookObstacles({ hooks: { [name]: [{ path }] } })).toHaveLength(count);
  expect(hookObstacles({})).toEqual([]);
});
