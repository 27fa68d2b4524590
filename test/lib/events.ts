/** What containerd publishes while a test runs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Containerd } from './containerd.ts';
import { privateDir } from './dirs.ts';
import { Daemon } from './program.ts';
import { sleep } from './wait.ts';

export interface TaskEvents {
  /** Topics of a container's tasks so far; exits with their status: "/tasks/exit 137". */
  seen(id: string): string[];
  stop(): Promise<void>;
}

export async function watchEvents(containerd: Containerd): Promise<TaskEvents> {
  const log = join(privateDir('events'), 'events.log');
  const daemon = await Daemon.start('ctr', ['--address', containerd.socket, 'events'], {
    log,
    ready: async () => {
      // It says nothing when it has subscribed.
      await sleep(500);
      return true;
    },
  });
  return {
    seen: (id) =>
      readFileSync(log, 'utf8')
        .split('\n')
        .flatMap((line) => {
          const [, topic = '', json = '{}'] = /(\/tasks\/\S+) (\{.*\})/.exec(line) ?? [];
          const event = JSON.parse(json) as { container_id?: string; exit_status?: number };
          if (event.container_id !== id) return [];
          return [topic === '/tasks/exit' ? `${topic} ${event.exit_status ?? 0}` : topic];
        }),
    stop: () => daemon.stop(),
  };
}
