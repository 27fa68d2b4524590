/** The one question that the installer has for Kubernetes: whether its DaemonSet is there. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { describeError } from '../../proto/status.ts';

/** Source: Kubernetes, "Accessing the Kubernetes API from a Pod". */
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
const ANSWER_MS = 10_000;

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
  if (!api) return { kind: 'unknown', why: 'there is no API server in the environment' };
  const dispatcher = new Agent({ connect: api.ca === undefined ? {} : { ca: api.ca } });
  try {
    const path = ['apis/apps/v1/namespaces', namespace, 'daemonsets', name].map(encodeURI).join('/');
    const { statusCode, body } = await request(`${api.url}/${path}`, {
      dispatcher,
      headers: { authorization: `Bearer ${await api.token()}`, accept: 'application/json' },
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const text = await body.text();
    return stateOfAnswer(statusCode, text);
  } catch (error) {
    return { kind: 'unknown', why: describeError(error).message };
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
