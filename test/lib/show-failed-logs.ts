/** For vitest's setupFiles. */
import { beforeEach } from 'vitest';
import { failedLogs } from './failed-logs.ts';

beforeEach(({ onTestFailed, task }) => {
  failedLogs.begin();
  onTestFailed(() => {
    const text = failedLogs.show();
    if (text !== '') console.error(`What was logged during "${task.name}":\n${text}`);
  });
});
