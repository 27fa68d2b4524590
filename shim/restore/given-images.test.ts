import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DUMP_FACTS_FILE } from '../../checkpoint/facts.ts';
import { TRIAL_LOSS_FILE } from '../../checkpoint/trial-files.ts';
import { silent } from '../task/fakes.ts';
import type { PlanInput } from '../task/start-plan.ts';
import { savedFacts, writeLoss } from './given-images.ts';
import { createStartPlanner } from './index.ts';

const cuda = { program: '/nowhere/thaw-cuda', libcuda: '', nvml: '' };
const planner = createStartPlanner({ daemonSocket: '/none', guardProgram: '/nowhere/guard', cuda });
const rootfs = [{ type: 'overlay', source: 'overlay', target: '', options: ['lowerdir=/b:/a'] }];
const input = (checkpoint: PlanInput['checkpoint']): PlanInput => ({
  namespace: 'n',
  id: 'c',
  bundle: '/b',
  rootfs,
  checkpoint,
  spec: {},
  runc: undefined as never,
  log: silent,
});

describe('images that the caller names', () => {
  it('are restored or fail, on the mounts as they are given', async () => {
    const plan = await planner(input({ imagePath: '/nonexistent/images', workPath: '' }));
    expect(plan).toMatchObject({ kind: 'restore', required: true, rootfs });
  });

  it('leave the reason where memory is lost, for whoever asked for a trial', async () => {
    const workPath = await mkdtemp(join(tmpdir(), 'given-'));
    try {
      writeLoss(workPath, 'a chunk is corrupt');
      expect(await readFile(join(workPath, TRIAL_LOSS_FILE), 'utf8')).toBe('a chunk is corrupt');
      expect(() => writeLoss(join(workPath, 'gone'), 'a chunk is corrupt')).not.toThrow();
    } finally {
      await rm(workPath, { recursive: true });
    }
  });

  it('are nothing that another container is restored from', async () => {
    expect(await planner(input(undefined))).toEqual({ kind: 'cold', rootfs });
  });
});

describe('what our dump says beside images', () => {
  it('is nothing where no dump of ours is, and an error where it is not what one leaves', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'given-'));
    try {
      expect(await savedFacts(join(dir, 'nowhere'))).toBeUndefined();
      expect(await savedFacts(dir)).toBeUndefined();
      const facts = join(dir, DUMP_FACTS_FILE);
      for (const text of ['no JSON', '{"cuda":{}}']) {
        await writeFile(facts, text);
        await expect(savedFacts(dir)).rejects.toThrow(/thaw-dump.json.*checkpoint again/);
      }
      await rm(facts);
      await symlink('/etc/passwd', facts);
      await expect(savedFacts(dir)).rejects.toThrow('no regular file');
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
