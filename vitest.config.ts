import { defineConfig } from 'vitest/config';

// Unit tests sit beside their source and need no root; test/ holds what needs the test node (see scripts/test).
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['{shim,snapshotter,checkpoint,cli,proto,native,scripts}/**/*.test.ts'],
          testTimeout: 15_000,
        },
      },
      {
        test: {
          name: 'node',
          include: ['test/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
