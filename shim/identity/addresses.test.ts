import { describe, expect, it } from 'vitest';
import { ipv4Addresses, ipv6Addresses } from './addresses.ts';

/** As Linux 6.18 prints it for a pod behind a bridge. */
const FIB_TRIE = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.88.0.0/16 2 0 2
        +-- 10.88.0.0/28 2 0 2
           |-- 10.88.0.0
              /16 link UNICAST
           |-- 10.88.0.7
              /32 host LOCAL
        |-- 10.88.255.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
Local:
  +-- 0.0.0.0/0 3 0 5
           |-- 10.88.0.7
              /32 host LOCAL
`;

describe('addresses of a network namespace', () => {
  it('are its own IPv4 addresses, each once, without loopback', () => {
    expect(ipv4Addresses(FIB_TRIE)).toEqual(['10.88.0.7']);
    expect(ipv4Addresses('')).toEqual([]);
  });

  it.each([
    ['fd00000000000000000000000000002a 02 40 00 80     eth0', ['fd00::2a']],
    ['20010db8000000000001000000000001 02 40 00 80     eth0', ['2001:db8::1:0:0:1']],
    ['20010db8000100020003000400050006 02 40 00 80     eth0', ['2001:db8:1:2:3:4:5:6']],
    ['20010db8000000010001000100010001 02 40 00 80     eth0', ['2001:db8:0:1:1:1:1:1']],
    ['20010db8000000000000000000000000 02 40 00 80     eth0', ['2001:db8::']],
    ['fe800000000000003c7bc4fffe0a1b2c 02 40 20 80     eth0', []],
    ['00000000000000000000000000000001 01 80 10 80       lo', []],
  ])('are its global IPv6 addresses, written short: %s', (line, addresses) => {
    expect(ipv6Addresses(`${line}\n`)).toEqual(addresses);
  });
});
