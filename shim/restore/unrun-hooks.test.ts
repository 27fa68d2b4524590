import { expect, it } from 'vitest';
import { unrunHooks } from './unrun-hooks.ts';

it('has nothing to say of hooks that are run', () => {
  const hook = [{ path: '/bin/setup' }];
  expect(unrunHooks({})).toEqual([]);
  expect(unrunHooks({ hooks: { prestart: hook, createRuntime: hook, poststart: hook } })).toEqual([]);
});

it('names every one that is not', () => {
  const hooks = {
    createContainer: [{ path: '/bin/a' }, { path: '/bin/b', args: ['b', 'create-symlinks'] }],
    startContainer: [{ path: '/sbin/ldconfig' }],
  };
  expect(unrunHooks({ hooks })).toEqual([
    'the container has the createContainer hook /bin/a, which no restore runs',
    'the container has the createContainer hook /bin/b, which no restore runs',
    'the container has the startContainer hook /sbin/ldconfig, which no restore runs',
  ]);
});

it.each([
  ['/usr/bin/nvidia-cdi-hook', ['nvidia-cdi-hook', 'create-symlinks', '--link', 'a::b'], 0],
  ['/usr/bin/nvidia-cdi-hook', ['nvidia-cdi-hook', 'disable-device-node-modification'], 0],
  ['/usr/bin/nvidia-ctk', ['nvidia-ctk', 'hook', 'update-ldcache', '--folder', '/usr/lib64'], 0],
  ['/usr/bin/nvidia-ctk', ['nvidia-ctk', 'hook', 'what-comes-next'], 1],
  ['/usr/bin/nvidia-ctk', ['nvidia-ctk', 'hook'], 1],
  ['/usr/bin/nvidia-cdi-hook', undefined, 1],
] as const)('of NVIDIA: %s %j obstructs a restore: %i', (path, args, count) => {
  const createContainer = [args ? { path, args: [...args] } : { path }];
  expect(unrunHooks({ hooks: { createContainer } })).toHaveLength(count);
});
