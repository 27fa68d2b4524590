/**
 * Programs in front of runc that edit the bundle's config.json when they are called with `create`, and hand everything else
 * on: nvidia-container-runtime, for one. A restore is no `create`, and still needs the edits, as the mounts of the
 * checkpoint have them.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeError } from '../../proto/status.ts';
import type { Log } from '../log.ts';
import { isRunc, Runc } from '../runc/runc.ts';
import { bundlePaths, editJson } from '../task/bundle.ts';
import type { OciSpec } from '../task/oci-spec.ts';

export interface EditedConfig {
  /** config.json as containerd wrote it, and as the wrapper leaves it. */
  before: string;
  after: string;
  /** `after`, parsed. */
  spec: OciSpec;
}

const DEADLINE_MS = 10_000;
/** A root file system that is not there. */
const NOWHERE = 'none';

/**
 * Lets the wrapper edit a copy. Its runc then finds no root file system and makes nothing: it looks for one before all
 * else (libcontainer's configs/validate). Undefined for runc itself, and where nothing was edited.
 */
export async function wrapperEdits(
  { config, spawner }: Pick<Runc, 'config' | 'spawner'>,
  { id, bundle }: { id: string; bundle: string },
  log: Log,
): Promise<EditedConfig | undefined> {
  if (isRunc(config)) return undefined;
  const paths = bundlePaths(bundle);
  const copy = join(paths.work, 'edits');
  const before = readFileSync(paths.config, 'utf8');
  const { root } = JSON.parse(before) as OciSpec;
  const { logFile: _, ...rest } = config;
  const runc = new Runc({ ...rest, root: join(copy, 'state') }, spawner);
  try {
    mkdirSync(copy, { recursive: true, mode: 0o700 });
    const given = editJson(before, (spec) => {
      spec.root = { ...spec.root, path: NOWHERE };
    });
    writeFileSync(bundlePaths(copy).config, given, { mode: 0o600 });
    await makeNothing(runc, id, copy, log);
    const edited = readFileSync(bundlePaths(copy).config, 'utf8');
    if (edited === given) return undefined;
    const after = editJson(edited, (spec) => {
      if (root) spec.root = root;
    });
    return { before, after, spec: JSON.parse(after) as OciSpec };
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

async function makeNothing(runc: Runc, id: string, bundle: string, log: Log): Promise<void> {
  const pidFile = bundlePaths(bundle).initPid;
  try {
    await runc.create({ id, bundle, pidFile }, { cwd: bundle, deadlineMs: DEADLINE_MS });
  } catch (error) {
    // Also a wrapper that failed before it edited anything: then the mounts differ, and its own words come at the cold start.
    log.debug(
      { container: id, reason: describeError(error).message },
      'asked the wrapper of runc for its edits',
    );
    return;
  }
  await runc.delete(id, true);
}
