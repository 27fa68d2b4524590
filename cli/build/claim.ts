import { once } from 'node:events';
import { createServer } from 'node:net';
import { Code, describeError } from '../../proto/status.ts';
import type { Cleanup } from '../cleanup.ts';
import { CliError } from '../error.ts';

/**
 * Only one process of the node has the name at a time. The name of an abstract socket goes with its process, however that ends,
 * and no file is left (unix(7)).
 */
export async function claim(name: string, cleanup: Cleanup): Promise<void> {
  const server = createServer((socket) => socket.destroy());
  server.unref();
  server.listen(`\0${name}`);
  try {
    await once(server, 'listening');
  } catch (error) {
    if (describeError(error).context.errno !== 'EADDRINUSE') throw error;
    throw new CliError(
      Code.alreadyExists,
      'Cannot build: the same build runs on this node already; wait for its end',
    );
  }
  cleanup.add('end the claim to the build', async () => {
    server.close();
  });
}
