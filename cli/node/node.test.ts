import { describe, expect, it } from 'vitest';
import type { NodeCheckpoint } from './daemon.ts';
import { matchId } from './evict.ts';
import { statusLines } from './status.ts';

const a = `sha256:${'a'.repeat(64)}`;
const ab = `sha256:${'a'.repeat(10)}${'b'.repeat(54)}`;
function checkpoint(id: string, more: Partial<NodeCheckpoint> = {}): NodeCheckpoint {
  return {
    id,
    image: 'r/a:1',
    state: 'complete',
    storedBytes: 2048n,
    presentBytes: 1024n,
    fetchedBytes: 0n,
    wantedChunks: 0,
    error: '',
    ...more,
  };
}

describe('matchId()', () => {
  it('takes a whole id, the first characters, and what the table shows', () => {
    for (const text of [ab, 'aaaaaaaaaab', 'sha256:aaaaaaaaaabb…'])
      expect(matchId([checkpoint(a), checkpoint(ab)], text)).toBe(ab);
  });
  it('refuses what fits none or several', () => {
    expect(() => matchId([checkpoint(a)], 'b')).toThrow('Cannot find a checkpoint b');
    expect(() => matchId([checkpoint(a), checkpoint(ab)], 'aa')).toThrow('any of 2');
    expect(() => matchId([checkpoint(a)], 'sha256:')).toThrow('Cannot find');
  });
});

describe('statusLines()', () => {
  it('says so where there is nothing', () =>
    expect(statusLines({ checkpoints: [], layers: [] })).toEqual(['No checkpoints on this node']));
  it('is a table, with errors below it made safe to print', () => {
    const failed = checkpoint(a, { state: 'failed', wantedChunks: 3, error: 'digest\u001b[31m wrong' });
    const lines = statusLines({ checkpoints: [failed], layers: [] });
    expect(lines).toEqual([
      'ID                    STATE   HERE    STORED  FETCHED  WANTED  IMAGE',
      'sha256:aaaaaaaaaaaa…  failed  50 %  2.00 KiB      0 B       3  r/a:1',
      'sha256:aaaaaaaaaaaa…: digest?[31m wrong',
    ]);
  });
  it('has lazy layers in a table of their own', () => {
    const lines = statusLines({ checkpoints: [], layers: [checkpoint(ab)] });
    expect(lines).toEqual([
      'No checkpoints on this node',
      '',
      'LAYER                 STATE     HERE    STORED  FETCHED  WANTED  IMAGE',
      'sha256:aaaaaaaaaabb…  complete  50 %  2.00 KiB      0 B       0  r/a:1',
    ]);
  });
});
