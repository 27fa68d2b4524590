import { describe, expect, test } from 'vitest';
import { Code } from '../proto/status.ts';
import { digestOf } from './digest.ts';
import { sampleFacts } from './facts.test-helper.ts';
import { mergeFacts } from './merge-facts.ts';
import { readCheckpointFacts } from './read-facts.ts';

const bytesOf = (value: unknown) => Buffer.from(JSON.stringify(value));

describe('readCheckpointFacts', () => {
  test('reads what was written, and only those bytes where they are bound', () => {
    const bytes = bytesOf(sampleFacts(2));
    expect(readCheckpointFacts(bytes)).toEqual(sampleFacts(2));
    const bound = { offset: 1024, length: bytes.length, digest: digestOf(bytes) };
    expect(readCheckpointFacts(bytes, bound)).toEqual(sampleFacts(2));
    for (const wrong of [
      { ...bound, length: bound.length + 1 },
      { ...bound, digest: digestOf('x') },
    ])
      expect(() => readCheckpointFacts(bytes, wrong)).toThrow('not those that the index names');
  });

  test('refuses another format version by name', () => {
    for (const formatVersion of [0, 2, '1', null, undefined])
      expect(() => readCheckpointFacts(bytesOf({ ...sampleFacts(2), formatVersion }))).toThrow(
        'format version',
      );
  });

  test.each<[string, Buffer]>([
    ['no JSON', Buffer.from('{')],
    ['bytes that are no UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
    ['a list', bytesOf([])],
    ['a missing part', bytesOf({ ...sampleFacts(2), launch: undefined })],
    [
      'a count of layers that cannot be',
      bytesOf({ ...sampleFacts(2), layers: { ...sampleFacts(2).layers, checkpoint: 1 } }),
    ],
    ['more than the limit', Buffer.alloc(4 * 1024 * 1024 + 1, 32)],
  ])('refuses %s', (_, bytes) => {
    expect(() => readCheckpointFacts(bytes)).toThrow('checkpoint.json');
  });
});

describe('mergeFacts', () => {
  const sample = sampleFacts(3);
  const input = {
    dump: { launch: sample.launch, host: sample.host, mounts: sample.mounts },
    created: sample.created,
    image: sample.image,
    dataLayers: 2,
    base: sample.layers.base,
    diff: null,
    summary: { processes: sample.processes, memoryBytes: sample.memoryBytes },
    verified: true,
    engine: { name: 'containerd', version: '2.1.4' },
  };

  test('makes facts that a reader accepts, with the keys of other tools', () => {
    const facts = mergeFacts(input);
    expect(readCheckpointFacts(bytesOf(facts))).toEqual(facts);
    expect(facts.layers.checkpoint).toBe(3);
    expect(facts.verified).toBe(true);
    expect(facts.annotations).toMatchObject({
      'org.criu.checkpoint.engine.name': 'containerd',
      'org.criu.checkpoint.engine.version': '2.1.4',
      'org.criu.checkpoint.criu.version': '4.2',
      'org.criu.checkpoint.rootfsImageName': 'registry.example/server:1',
    });
    expect(facts.annotations).not.toHaveProperty('org.criu.checkpoint.container.name');
  });

  test('says which part is wrong', () => {
    for (const wrong of [{ created: 'yesterday' }, { base: [] }, { dataLayers: 0 }])
      expect(() => mergeFacts({ ...input, ...wrong })).toThrow(/Cannot describe the checkpoint: \w+/);
    try {
      mergeFacts({ ...input, base: [] });
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: Code.internal });
    }
  });
});
