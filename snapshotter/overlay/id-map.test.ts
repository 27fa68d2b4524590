import { expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { GID_MAPPING_LABEL, mappedRoot, UID_MAPPING_LABEL } from './id-map.ts';

const labels = (uids: string, gids: string) => ({ [UID_MAPPING_LABEL]: uids, [GID_MAPPING_LABEL]: gids });

test('root is where id 0 is mapped to', () => {
  expect(mappedRoot({})).toBeUndefined();
  expect(mappedRoot(labels('0:1000:65536', '0:2000:1'))).toEqual({ uid: 1000, gid: 2000 });
  expect(mappedRoot(labels('1:7:10,0:9:1', '0:0:4294967295'))).toEqual({ uid: 9, gid: 0 });
});

test.each([
  ['1:1000:10', '0:1000:10'],
  ['0:1000:0', '0:1000:10'],
  ['0:1000', '0:1000:10'],
  ['0:-1:10', '0:1000:10'],
  ['0:4294967295:1', '0:1000:10'],
  ['0:1000:10,', '0:1000:10'],
  ['0:1000:10', ''],
])('%j and %j are refused', (uids, gids) => {
  expect(() => mappedRoot(labels(uids, gids))).toThrow(
    expect.objectContaining({ code: Code.invalidArgument }),
  );
});
