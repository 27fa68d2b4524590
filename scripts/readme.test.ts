import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');

it('README shows the drop-in that the integration tests run containerd with', () => {
  expect(readme).toContain(readFileSync(join(root, 'deploy/containerd/whole-node-2.toml'), 'utf8').trim());
});

it.each([...readme.matchAll(/\]\(([^)#:]+)\)/g)].map(([, target = '']) => target))(
  'README links to %s, which exists',
  (target) => {
    expect(readFileSync(join(root, target), 'utf8').length).toBeGreaterThan(0);
  },
);
