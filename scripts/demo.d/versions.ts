import { release } from 'node:os';
import { run } from '../../test/lib/program.ts';

import tested from './tested.json' with { type: 'json' };

export type Versions = Record<string, string>;

/** Versions of everything the demo's result depends on, as found in the node and in the image's root. */
export async function findVersions(root: string): Promise<Versions> {
  const first = async (pattern: RegExp, program: string) =>
    pattern.exec((await run(program, ['--version'])).stdout)?.[1] ?? 'unknown';
  const installed = async (name: string, ...options: string[]) => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own syntax
    const format = '--showformat=${Version}';
    const { code, stdout } = await run('dpkg-query', [...options, '--show', format, name], {
      allowFailure: true,
    });
    return code === 0 ? stdout.trim() : 'none';
  };
  const inImage = `--admindir=${root}/var/lib/dpkg`;
  return {
    kernel: release(),
    containerd: await first(/ v?(\d[^\s+~]*)/, 'containerd'),
    runc: await first(/version (\d[^\s+]*)/, 'runc'),
    criu: await first(/Version: (\S+)/, '/opt/thaw/current/criu/criu'),
    'docker-registry': await first(/ v?(\d[^\s+]*)/, 'docker-registry'),
    'containernetworking-plugins': await installed('containernetworking-plugins'),
    node: process.versions.node,
    python: await installed('python3', inImage),
    'python3-torch': await installed('python3-torch', inImage),
  };
}

/** Versions that the demo was not tried with. A kernel counts by its first two numbers. */
export function untested(found: Versions, known: Record<string, readonly string[]> = tested): string[] {
  return Object.entries(found)
    .filter(([name, version]) => version !== 'none' && !(known[name] ?? []).includes(series(name, version)))
    .map(([name, version]) => `${name} ${version} (tested: ${(known[name] ?? []).join(', ') || 'none'})`);
}

function series(name: string, version: string): string {
  return name === 'kernel' ? version.split('.').slice(0, 2).join('.') : version;
}
