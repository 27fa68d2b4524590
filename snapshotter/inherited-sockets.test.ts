import { expect, test } from 'vitest';
import { Code } from '../proto/status.ts';
import { checkInherited, inheritedDescriptors, inheritedSockets, socketPaths } from './inherited-sockets.ts';

test('descriptors are those that were meant for this process', () => {
  expect(inheritedDescriptors({ LISTEN_PID: '7', LISTEN_FDS: '2' }, 7)).toEqual([3, 4]);
  expect(inheritedDescriptors({ LISTEN_PID: '8', LISTEN_FDS: '2' }, 7)).toEqual([]);
  for (const count of ['0', '-1', 'x', '1.5', '100000'])
    expect(inheritedDescriptors({ LISTEN_PID: '7', LISTEN_FDS: count }, 7)).toEqual([]);
  expect(inheritedSockets({}, 7).size).toBe(0);
});

test('sockets are found by inode, whatever is in their path', () => {
  const text = [
    'Num       RefCount Protocol Flags    Type St Inode Path',
    '0000000000000000: 00000002 00000000 00010000 0001 01 26094 /run/thaw/thaw.sock',
    '0000000000000000: 00000003 00000000 00000000 0001 03  9123',
    '0000000000000000: 00000003 00000000 00000000 0001 03 26099 /run/thaw/thaw.sock',
    '0000000000000000: 00000002 00000000 00010000 0001 01   311 /run/a b/x.sock',
    '0000000000000000: 00000002 00000000 00010000 0001 01 26095 @abstract',
  ].join('\n');
  expect(socketPaths(text)).toEqual(
    new Map([
      ['26094', '/run/thaw/thaw.sock'],
      ['311', '/run/a b/x.sock'],
    ]),
  );
});

test('a socket that nobody would answer is refused with what to do', () => {
  const wanted = ['/run/thaw/snapshotter.sock', '/run/thaw/thaw.sock'];
  expect(() => checkInherited(new Map([['/run/thaw/thaw.sock', 3]]), wanted)).not.toThrow();
  expect(() => checkInherited(new Map([['/run/other.sock', 3]]), wanted)).toThrow(
    expect.objectContaining({
      code: Code.failedPrecondition,
      message: expect.stringContaining(
        '"/run/other.sock" that was handed over: the configuration wants "/run/thaw/snap',
      ),
    }),
  );
});
