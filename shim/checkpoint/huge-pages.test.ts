import { describe, expect, it } from 'vitest';
import { hugeRanges } from './huge-pages.ts';

describe('hugeRanges', () => {
  it('finds the mappings that have any, with their addresses', () => {
    const smaps = [
      '7f0000000000-7f0000400000 rw-p 00000000 00:00 0 ',
      'Size:               4096 kB',
      'AnonHugePages:      2048 kB',
      'VmFlags: rd wr mr mw me ac sd hg ',
      '7f0000400000-7f0000401000 r--p 00000000 fe:00 123 /lib/a b-c d',
      'AnonHugePages:         0 kB',
      '7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]',
      'AnonHugePages:         0 kB',
      '',
    ].join('\n');
    expect(hugeRanges(smaps)).toEqual([['7f0000000000', '7f0000400000']]);
    expect(hugeRanges('')).toEqual([]);
  });
});
