import { defineConfig } from 'vitest/config';
import { leftToOther } from './scripts/test-one-suite.ts';

// Unit tests sit beside their source and need no root; test/ holds what needs the test node, test/host/ what tests the
// test node from outside (see scripts/test).
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['{clients,shim,snapshotter,checkpoint,cli,proto,native,scripts}/**/*.test.ts'],
          // Far more than any needs, as nothing gives these a second try.
          testTimeout: 60_000,
          hookTimeout: 60_000,
          // They wait about as long as they compute. Vitest would leave one core free, and of two use one.
          maxWorkers: '100%',
        },
      },
      {
        test: {
          name: 'node',
          include: ['test/**/*.test.ts'],
          exclude: [
            'test/host/**',
            // THAW_NODE is set by scripts/node, the other by scripts/test where both nodes run.
            ...leftToOther(process.env['THAW_NODE'], process.env['THAW_SHARED'] === '1'),
          ],
          setupFiles: ['test/lib/show-failed-logs.ts'],
          testTimeout: 180_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'host',
          include: ['test/host/**/*.test.ts'],
          testTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
