/**
 * What the installer has to do with Kubernetes: it asks whether its DaemonSet is there, and labels its node, which the runtime
 * class asks for.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { Code, describeError } from '../../proto/status.ts';
import { InstallError } from './error.ts';

/** Source: Kubernetes, "Accessing the Kubernetes API from a Pod". */
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
const ANSWER_MS = 10_000;
/** In deploy/kubernetes/runtimeclass.yaml. */
const READY_LABEL = 'thaw.dev/ready';

const NO_SERVER = 'there is no API server in the environment';

export interface ApiServer {
  url: string;
  /** Read for each question: the kubelet renews it. */
  token(): Promise<string>;
  ca: string | undefined;
}

/** Undefined outside of a pod. */
export async function apiServer(
  env: Readonly<Record<string, string | undefined>>,
  account = ACCOUNT,
): Promise<ApiServer | undefined> {
  const [host, port] = [env['KUBERNETES_SERVICE_HOST'], env['KUBERNETES_SERVICE_PORT']];
  if (host === undefined || port === undefined) return undefined;
  const ca = await readFile(join(account, 'ca.crt'), 'utf8').catch(() => undefined);
  return {
    url: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    token: async () => (await readFile(join(account, 'token'), 'utf8')).trim(),
    ca,
  };
}

export type DaemonSetState =
  | { kind: 'there' }
  | { kind: 'deleted' }
  /** Also what is answered when the rights were deleted together with it. */
  | { kind: 'refused' }
  | { kind: 'unknown'; why: string };

export async function daemonSetState(
  api: ApiServer | undefined,
  namespace: string,
  name: string,
): Promise<DaemonSetState> {
  if (!api) return { kind: 'unknown', why: NO_SERVER };
  try {
    const { status, text } = await ask(api, ['apis/apps/v1/namespaces', namespace, 'daemonsets', name]);
    return stateOfAnswer(status, text);
  } catch (error) {
    return { kind: 'unknown', why: describeError(error).message };
  }
}

/** `isReady`: whether pods of the runtime class may be sent there. Rejects if the node could not be labelled. */
export async function labelNode(api: ApiServer | undefined, node: string, isReady: boolean): Promise<void> {
  const unlabelled = (why: string, cause?: unknown) =>
    new InstallError(Code.unavailable, `Cannot label the node ${node}: ${why}`, { cause });
  if (!api) throw unlabelled(NO_SERVER);
  const patch = { metadata: { labels: { [READY_LABEL]: isReady ? 'true' : null } } };
  const answer = await ask(api, ['api/v1/nodes', node], patch).catch((cause: unknown) => {
    throw unlabelled(describeError(cause).message, cause);
  });
  if (answer.status !== 200) throw unlabelled(`the API server answered ${answer.status}`);
}

/** `patch`: to be merged into what is there (RFC 7386); without it is read. */
async function ask(
  api: ApiServer,
  path: readonly string[],
  patch?: object,
): Promise<{ status: number; text: string }> {
  const dispatcher = new Agent({ connect: api.ca === undefined ? {} : { ca: api.ca } });
  try {
    const { statusCode, body } = await request(`${api.url}/${path.map(encodeURI).join('/')}`, {
      dispatcher,
      method: patch ? 'PATCH' : 'GET',
      headers: {
        authorization: `Bearer ${await api.token()}`,
        accept: 'application/json',
        ...(patch ? { 'content-type': 'application/merge-patch+json' } : {}),
      },
      ...(patch ? { body: JSON.stringify(patch) } : {}),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    return { status: statusCode, text: await body.text() };
  } finally {
    await dispatcher.close();
  }
}

function stateOfAnswer(status: number, text: string): DaemonSetState {
  switch (status) {
    case 200: {
      const { metadata } = JSON.parse(text) as { metadata?: { deletionTimestamp?: string } };
      // Kept until its pods are gone, where that was asked for.
      return metadata?.deletionTimestamp === undefined ? { kind: 'there' } : { kind: 'deleted' };
    }
    case 404:
      return { kind: 'deleted' };
    case 401:
    case 403:
      return { kind: 'refused' };
    default:
      return { kind: 'unknown', why: `the API server answered ${status}` };
  }
}

/** Only what could be seen before can be seen to be gone. */
export function wasDeleted(atStart: DaemonSetState, now: DaemonSetState): boolean {
  return atStart.kind === 'there' && (now.kind === 'deleted' || now.kind === 'refused');
}
