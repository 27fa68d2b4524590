/** containerd reads a configuration before it is put in place. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, type TomlTable } from 'smol-toml';
import { ignoredSettings } from '../doctor/containerd.ts';
import { checkContainerdConfig } from '../doctor/containerd-config.ts';
import type { DaemonConfig, Machine } from '../doctor/machine.ts';
import { type ContainerdFiles, foreignChanges, onTrial } from './containerd-plan.ts';
import { refused } from './error.ts';

type Runner = Pick<Machine, 'run'>;

export async function containerdVersion({ run }: Runner): Promise<string> {
  const asked = await run('containerd', ['--version']);
  const version = /^containerd \S+ v?(\d\S*)/m.exec(asked?.stdout ?? '')?.[1];
  if (version === undefined)
    throw refused('There is no containerd in PATH: install containerd 1.7 or 2.x and runc first');
  return version;
}

/** What containerd makes of the files, wherever the drop-in lies now. Throws with its words if it cannot read them. */
export async function settingsOf(
  { run }: Runner,
  path: string,
  files: Pick<ContainerdFiles, 'main' | 'dropIn'>,
): Promise<{ settings: TomlTable; warnings: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'thaw-install-'));
  try {
    const [main, trial] = [join(directory, 'config.toml'), join(directory, 'thaw.toml')];
    const { dropIn } = files;
    if (dropIn) await writeFile(trial, dropIn.text, { mode: 0o600 });
    await writeFile(main, onTrial(files.main, path, dropIn && { path: dropIn.path, trial }), { mode: 0o600 });
    const ran = await run('containerd', ['--config', main, 'config', 'dump']);
    if (ran?.code !== 0) {
      const said = ran?.stderr.trim().split('\n').at(-1) ?? 'nothing';
      throw refused(`containerd cannot read ${path}: ${said.replaceAll(main, path)}`);
    }
    return { settings: parse(ran.stdout), warnings: ran.stderr };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Throws unless containerd would read the files, find in them what thaw needs, and everything else as it was. */
export async function tryFiles(
  machine: Runner,
  path: string,
  before: TomlTable,
  files: ContainerdFiles,
  { version, daemon }: { version: string; daemon: DaemonConfig },
): Promise<void> {
  const { settings, warnings } = await settingsOf(machine, path, files);
  const foreign = foreignChanges(before, settings);
  if (foreign.length > 0)
    throw refused(
      `thaw's settings would change others in containerd (${foreign.slice(0, 5).join(', ')}): nothing was changed; take the settings from deploy/containerd by hand`,
    );
  const { findings } = checkContainerdConfig(settings, version, daemon);
  const failed = [...ignoredSettings(warnings, path), ...findings].find(({ status }) => status === 'failed');
  if (failed) throw refused(`With thaw's settings ${failed.found}: nothing was changed; ${failed.mend}`);
}
