/** Calls to a container's shim over its own socket, past containerd: for methods that ctr has no command for. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Decoder, type Encoder, TtrpcClient } from '../../proto/ttrpc/index.ts';
import type { Containerd } from './containerd.ts';

const CALL_MS = 30_000;

export function bundleOf(containerd: Containerd, id: string): string {
  return join(dirname(containerd.socket), 'state/io.containerd.runtime.v2.task/default', id);
}

/** Calls one method of the task service, on a connection of its own. */
export async function callShim<Request, Response>(
  containerd: Containerd,
  id: string,
  method: string,
  codecs: { request: Encoder<Request>; response: Decoder<Response> },
  request: Request,
): Promise<Response> {
  const client = await TtrpcClient.connect(addressOf(bundleOf(containerd, id)), CALL_MS);
  try {
    const options = { timeoutMs: CALL_MS };
    return await client
      .unary('containerd.task.v2.Task', method, codecs, request, options)
      .catch(async (error) => {
        // Shims of containerd 2 may have the newer version of the service alone.
        if (!/service containerd\.task\.v2/.test(String(error))) throw error;
        return client.unary('containerd.task.v3.Task', method, codecs, request, options);
      });
  } finally {
    client.close();
    await client.closed;
  }
}

/** Shims of containerd 2 may leave bootstrap.json alone. */
function addressOf(bundle: string): string {
  const plain = join(bundle, 'address');
  const address = existsSync(plain)
    ? readFileSync(plain, 'utf8')
    : (JSON.parse(readFileSync(join(bundle, 'bootstrap.json'), 'utf8')) as { address: string }).address;
  return address.trim().replace(/^unix:\/\//, '');
}
