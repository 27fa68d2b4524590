import { expect, it } from 'vitest';
import { profileToAdd } from './io-uring.ts';

it('a container without a profile gets one that denies io_uring, as a kernel without it would, and nothing else', () => {
  expect(profileToAdd({})).toMatchObject({
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: expect.arrayContaining(['io_uring_setup']), action: 'SCMP_ACT_ERRNO', errnoRet: 38 }],
  });
});

it.each([
  ['a pod that wants it', { annotations: { 'thaw.dev/io-uring': 'allow' } }],
  [
    'a container of a pod that wants it',
    { annotations: { 'thaw.dev/io-uring.db': 'allow', 'io.kubernetes.cri.container-name': 'db' } },
  ],
  ['a profile of its own', { linux: { seccomp: { defaultAction: 'SCMP_ACT_ALLOW' } } }],
  ['a sandbox', { annotations: { 'io.kubernetes.cri.container-type': 'sandbox' } }],
])('%s is left alone', (_, spec) => expect(profileToAdd(spec)).toBeUndefined());

it('anything else than "allow" does not allow it', () => {
  expect(profileToAdd({ annotations: { 'thaw.dev/io-uring': 'deny' } })).toBeDefined();
});
