/** The three images: what is in them, and what is asked of their servers. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Entry } from '../../../test/lib/index.ts';

export interface Recipe {
  /** Of its metrics. */
  name: 'pytorch' | 'node' | 'shell';
  /** Folder of the Debian root below those that scripts/bench made. */
  root: string;
  entries: Entry[];
  command: string[];
  env: Record<string, string>;
  /** Of the question, on port 8080. */
  path: string;
}

const file = (path: string, source: string): Entry => ({
  path,
  content: readFileSync(join(import.meta.dirname, source)),
});

/** `small`: the demo's server without PyTorch stands for the one with it. */
export function recipes(small: boolean): Recipe[] {
  return [
    {
      name: 'pytorch',
      root: small ? 'small' : 'model',
      entries: [
        file('srv/server.py', `../../demo.d/${small ? 'small-server.py' : 'server.py'}`),
        file('srv/thaw.py', '../../../clients/python/thaw.py'),
      ],
      command: ['python3', '/srv/server.py'],
      env: {
        LANG: 'C.UTF-8',
        OMP_NUM_THREADS: '2',
        OPENBLAS_NUM_THREADS: '2',
        // Threads that spin while they wait take the cores of whoever else is on the node.
        OMP_WAIT_POLICY: 'PASSIVE',
        OPENBLAS_THREAD_TIMEOUT: '4',
      },
      path: '/answer?q=cold',
    },
    {
      name: 'node',
      root: 'node',
      entries: [file('srv/server.cjs', 'server.cjs')],
      command: ['node', '/srv/server.cjs'],
      env: {},
      path: '/answer',
    },
    {
      name: 'shell',
      root: 'shell',
      entries: [
        { path: 'srv/www/index.html', content: 'ready\n' },
        {
          path: 'srv/serve.sh',
          mode: 0o755,
          content: [
            '#!/bin/sh',
            '. /etc/os-release',
            'for name in /usr/bin/*; do count=$((count + 1)); done',
            'echo "$PRETTY_NAME, $count programs"',
            'exec busybox httpd -f -p 8080 -h /srv/www',
            '',
          ].join('\n'),
        },
      ],
      command: ['/srv/serve.sh'],
      env: {},
      path: '/index.html',
    },
  ];
}

/** What of an answer must be the same from every server of a recipe. */
export function essence(answer: string): string {
  if (!answer.startsWith('{')) return answer;
  const {
    pod: _pod,
    pid: _pid,
    answered: _answered,
    ...rest
  } = JSON.parse(answer) as Record<string, unknown>;
  return JSON.stringify(rest);
}
