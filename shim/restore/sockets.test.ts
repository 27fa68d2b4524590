import { join } from 'node:path';
import { expect, it } from 'vitest';
import { movedSockets } from './sockets.ts';

const fixtures = join(import.meta.dirname, '../../test/fixtures/criu-4.2');
const spec = (path?: string) => ({ linux: { namespaces: [{ type: 'network', ...(path ? { path } : {}) }] } });

it('nothing moves that listens on all addresses, and the network is not asked', async () => {
  const read = () => {
    throw new Error('not to be asked');
  };
  expect(await movedSockets(fixtures, spec('/run/netns/pod'), { read })).toBeUndefined();
});

it('a network that the restore makes anew has the addresses it had', async () => {
  const read = () => {
    throw new Error('not to be asked');
  };
  expect(await movedSockets(fixtures, spec(), { read })).toBeUndefined();
});
