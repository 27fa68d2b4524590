import { parse } from 'smol-toml';
import { describeError } from '../../proto/status.ts';
import { checkContainerdConfig } from './containerd-config.ts';
import { type Finding, failed, ok } from './finding.ts';
import { checkImages } from './images.ts';
import type { ContainerdConfig, DaemonConfig, Machine } from './machine.ts';
import { isAtLeast } from './version.ts';

const SHIM = 'containerd-shim-thaw-v2';

export async function checkContainerd(
  machine: Machine,
  daemon: DaemonConfig,
  configFile: string,
): Promise<Finding[]> {
  let version: string;
  try {
    version = await machine.containerd.version();
  } catch (error) {
    return [
      failed(
        'containerd',
        describeError(error).message,
        'start containerd, or name its socket with --address',
      ),
    ];
  }
  const findings = [
    isAtLeast(version, 1, 7)
      ? ok('containerd', version)
      : failed(
          'containerd',
          `${version} has no snapshotter for each runtime`,
          'install containerd 1.7 or 2.x',
        ),
  ];
  const config = await readConfig(machine, configFile);
  if ('status' in config) return [...findings, config];
  findings.push(...config.findings);
  const { snapshotter, shimPaths, findings: seen } = checkContainerdConfig(config.settings, version, daemon);
  findings.push(...seen, await checkShim(machine, shimPaths));
  if (snapshotter === undefined) return findings;
  findings.push(await checkSnapshotter(machine, snapshotter));
  return [...findings, ...(await checkImages(machine.containerd, snapshotter))];
}

export async function readConfig(
  { run, exists }: Machine,
  file: string,
): Promise<{ settings: ContainerdConfig; findings: Finding[] } | Finding> {
  const args = (await exists(file)) ? ['--config', file, 'config', 'dump'] : ['config', 'dump'];
  const ran = await run('containerd', args);
  if (ran?.code === 0) return { settings: parse(ran.stdout), findings: ignoredSettings(ran.stderr, file) };
  const found = ran
    ? ran.stderr.trim().split('\n').at(-1) || 'it cannot be read'
    : 'there is no containerd in PATH';
  return failed(
    'containerd configuration',
    found,
    `mend ${file}, or name another file with --containerd-config`,
  );
}

/** containerd 2.x merges imports before it migrates: one of version 3 makes a main file of version 2 one of version 3. */
export function ignoredSettings(log: string, file: string): Finding[] {
  if (!/Ignoring unknown key.*plugin="?io\.containerd\.grpc\.v1\.cri/.test(log)) return [];
  return [
    failed(
      'containerd configuration',
      `containerd ignores CRI settings of version 2 in ${file}, as a file of version 3 is imported`,
      'import whole-node-1.7.toml there, which is of version 2, or bring the main file to version 3 ("containerd config migrate")',
    ),
  ];
}

/** Runtimes without a path have the program in containerd's PATH, which is taken to be like ours. */
async function checkShim({ exists, which }: Machine, paths: readonly string[]): Promise<Finding> {
  const check = 'shim';
  const missing: string[] = [];
  for (const path of paths) if (!(await exists(path))) missing.push(path);
  if (missing.length > 0)
    return failed(
      check,
      `runtime_path ${missing.join(', ')} is not there`,
      'install thaw there, or change the path',
    );
  const found = paths[0] ?? (await which(SHIM));
  return found === undefined
    ? failed(
        check,
        `there is no ${SHIM} in PATH`,
        `link it from /opt/thaw/current/bin to /usr/local/bin, or name it with runtime_path`,
      )
    : ok(check, found);
}

async function checkSnapshotter({ containerd }: Machine, name: string): Promise<Finding> {
  const check = 'snapshotter in containerd';
  try {
    await containerd.trySnapshotter(name);
    return ok(check, `${name} answers`);
  } catch (error) {
    return failed(
      check,
      describeError(error).message,
      'restart containerd if its configuration was changed after its start; else see thaw-snapshotter above',
    );
  }
}
