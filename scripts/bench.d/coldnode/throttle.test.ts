import { expect, test } from 'vitest';
import { parseSentBytes } from './throttle.ts';

test('what loopback has sent, out of /proc/net/dev', () => {
  const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
  eth0: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0
    lo: 2000 2 0 0 0 0 0 0 1000 4 0 0 0 0 0 0
`;
  expect(parseSentBytes(text)).toBe(1000);
  expect(parseSentBytes('')).toBeNaN();
});
