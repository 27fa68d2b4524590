/**
 * Hooks of the OCI runtime specification. Of a restored container runc runs `prestart` and `createRuntime`, and `poststop` when it
 * is deleted; `createContainer` and `startContainer` it runs of none (see unrun-hooks.ts). `poststart` it leaves out.
 */
import { Code } from '../../proto/status.ts';
import { isRunc, type Runc } from '../runc/runc.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import { RestoreError } from './error.ts';

/** Of a hook that has none of its own. */
const DEADLINE_MS = 30_000;

export interface HookedContainer {
  id: string;
  bundle: string;
  pid: number;
}

/** One after the other, as after a start. Rejects with the first that fails: the container is not to run then. */
export async function runPoststart(
  spec: OciSpec,
  container: HookedContainer,
  { config, spawner }: Pick<Runc, 'config' | 'spawner'>,
): Promise<void> {
  const hooks = spec.hooks?.poststart ?? [];
  // What another runtime does is not known here.
  if (hooks.length === 0 || !isRunc(config)) return;
  const state = Buffer.from(JSON.stringify(stateOf(spec, container)));
  for (const { path, args = [], env = [], timeout } of hooks) {
    const { code, signal, timedOut } = await spawner.run(path, args.slice(1), {
      env: Object.fromEntries(env.map(pair)),
      cwd: container.bundle,
      input: state,
      deadlineMs: timeout ? timeout * 1000 : DEADLINE_MS,
    });
    if (code === 0) continue;
    const how = timedOut ? 'did not end in time' : `ended with ${code ?? `signal ${signal}`}`;
    throw new RestoreError(Code.aborted, `The poststart hook ${path} ${how}`, {
      context: { container: container.id },
    });
  }
}

/** Source: "State" in runtime.md of the OCI runtime specification. */
function stateOf({ ociVersion = '1.0.0', annotations = {} }: OciSpec, { id, bundle, pid }: HookedContainer) {
  return { ociVersion, id, status: 'running', pid, bundle, annotations };
}

function pair(variable: string): [string, string] {
  const at = variable.indexOf('=');
  return at < 0 ? [variable, ''] : [variable.slice(0, at), variable.slice(at + 1)];
}
