import { describe, expect, it } from 'vitest';
import { silent } from '../task/fakes.ts';
import type { PlanInput } from '../task/start-plan.ts';
import { createStartPlanner } from './index.ts';

const planner = createStartPlanner({ daemonSocket: '/none', guardProgram: '/nowhere/guard' });
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

  it('are nothing that another container is restored from', async () => {
    expect(await planner(input(undefined))).toEqual({ kind: 'cold', rootfs });
  });
});
