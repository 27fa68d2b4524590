import { describe, expect, it } from 'vitest';
import { blockDevices, hugePageSize } from './machine.ts';
import { limit, maxUint64, rdmaEntries, uint64 } from './values.ts';

describe('uint64', () => {
  it('is exact over the whole range', () => {
    expect(uint64('0\n')).toBe(0);
    expect(uint64('9007199254740991')).toBe(9007199254740991);
    expect(uint64('9007199254740993')).toEqual({ low: 1, high: 0x200000, unsigned: true });
    expect(uint64('18446744073709551615')).toEqual(maxUint64);
    expect(maxUint64).toEqual({ low: 0xffffffff, high: 0xffffffff, unsigned: true });
  });

  it('is unset for what is no number', () => {
    for (const text of [undefined, '', 'max', '-1', '1 2']) expect(uint64(text)).toBeNull();
    expect(limit('max\n')).toEqual(maxUint64);
    expect(limit('5')).toBe(5);
  });
});

it('rdma entries keep both counters', () => {
  expect(rdmaEntries('mlx4_0 hca_handle=2 hca_object=max\nocrdma1 hca_handle=3 hca_object=4\n')).toEqual([
    { device: 'mlx4_0', hcaHandles: 2, hcaObjects: 4294967295 },
    { device: 'ocrdma1', hcaHandles: 3, hcaObjects: 4 },
  ]);
  expect(rdmaEntries(undefined)).toEqual([]);
});

it('huge page sizes have the names of the control files', () => {
  const names = ['hugepages-2048kB', 'hugepages-1048576kB', 'hugepages-64kB', 'other'];
  expect(names.map(hugePageSize)).toEqual(['2MB', '1GB', '64KB', undefined]);
});

it('block devices are found by number', () => {
  const text = 'major minor  #blocks  name\n\n 254        0  268435456 vda\n   8        1     1024 sda1\n';
  expect([...blockDevices(text)]).toEqual([
    ['254:0', '/dev/vda'],
    ['8:1', '/dev/sda1'],
  ]);
});
