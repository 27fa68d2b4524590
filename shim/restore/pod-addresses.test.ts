import { describe, expect, it } from 'vitest';
import { addressesV4, addressesV6, addressHere, formatAddress } from './pod-addresses.ts';

const fibTrie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.88.0.0/16 2 0 2
        |-- 10.88.0.0
           /16 link UNICAST
        |-- 10.88.0.7
           /32 host LOCAL
        |-- 10.88.255.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
Local:
        |-- 10.88.0.7
           /32 host LOCAL
`;
const ifInet6 = `fe80000000000000a8bb29fffe3c1b2a 02 40 20 80     eth0
fd000000000000000000000000000007 02 40 00 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
`;
const here = [...addressesV4(fibTrie), ...addressesV6(ifInet6)];
const v4 = (text: string) => Uint8Array.from(text.split('.').map(Number));
const v6 = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));
const chosen = (address: Uint8Array, among = here) => formatAddress(addressHere(address, among));

it('reads the addresses of a network namespace', () => {
  expect(here.map(formatAddress)).toEqual([
    '10.88.0.7',
    '127.0.0.1',
    'fe80:0:0:0:a8bb:29ff:fe3c:1b2a',
    'fd00:0:0:0:0:0:0:7',
    '0:0:0:0:0:0:0:1',
  ]);
});

describe('addressHere', () => {
  it.each([
    ['0.0.0.0', '0.0.0.0'],
    ['127.0.0.1', '127.0.0.1'],
    ['127.0.0.53', '127.0.0.53'],
    ['239.1.2.3', '239.1.2.3'],
    ['10.88.0.5', '10.88.0.7'],
    ['10.88.0.7', '10.88.0.7'],
  ])('%s becomes %s', (saved, expected) => expect(chosen(v4(saved))).toBe(expected));

  it.each([
    ['00000000000000000000000000000000', '0:0:0:0:0:0:0:0'],
    ['00000000000000000000000000000001', '0:0:0:0:0:0:0:1'],
    ['ff020000000000000000000000000001', 'ff02:0:0:0:0:0:0:1'],
    ['fd000000000000000000000000000005', 'fd00:0:0:0:0:0:0:7'],
    ['fe800000000000000000000000000005', 'fe80:0:0:0:a8bb:29ff:fe3c:1b2a'],
    ['00000000000000000000ffff0a580005', '0:0:0:0:0:ffff:a58:7'],
    ['00000000000000000000ffff7f000001', '0:0:0:0:0:ffff:7f00:1'],
  ])('%s becomes %s', (saved, expected) => expect(chosen(v6(saved))).toBe(expected));

  it('is loopback where there is nothing else, as in a trial', () => {
    expect(chosen(v4('10.88.0.5'), [v4('127.0.0.1')])).toBe('127.0.0.1');
  });

  it('says what is missing', () => {
    const onlyV4 = addressesV4(fibTrie);
    expect(() => chosen(v6('fd000000000000000000000000000005'), onlyV4)).toThrow(
      /fd00:0:0:0:0:0:0:5, and this pod has no IPv6/,
    );
  });
});
