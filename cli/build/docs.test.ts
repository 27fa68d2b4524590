import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { buildSpecSchema, parseBuildSpec } from './spec.ts';

const root = join(import.meta.dirname, '../..');
const section =
  readFileSync(join(root, 'docs/cli.md'), 'utf8').split('## thaw build')[1]?.split('\n## ')[0] ?? '';

it('the file in docs/cli.md can be built', () => {
  const [, text = ''] = /```toml\n(.*?)```/s.exec(section) ?? [];
  expect(parseBuildSpec(text, 'toml')).toMatchObject({
    env: { MODEL: 'small' },
    ready: { http: { port: 8080 } },
  });
});

it('docs/cli.md names every key', () => {
  const { properties } = z.toJSONSchema(buildSpecSchema, { io: 'input', unrepresentable: 'any' });
  for (const [key, below] of Object.entries(properties ?? {})) {
    const nested = typeof below === 'object' ? Object.keys(below.properties ?? {}) : [];
    for (const name of [key, ...nested])
      expect(section, `${key}: ${name}`).toMatch(new RegExp(`\\b${name}\\b`));
  }
});

it('the file in the Job can be built', () => {
  const job = readFileSync(join(root, 'deploy/kubernetes/build-job.yaml'), 'utf8');
  const [, block = ''] = /build\.toml: \|\n(.*?)\n---/s.exec(job) ?? [];
  expect(parseBuildSpec(block.replaceAll(/^ {4}/gm, ''), 'toml')).toMatchObject({
    ready: { http: { port: 8080 } },
  });
});
