/** Registries of a test's own that answer wrongly. */
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';

/** By what it answers. */
export async function fakeRegistry(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const server: Server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const host = `127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  return {
    host,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Passes on to a registry what `intercept` does not answer itself. */
export function proxyTo(
  host: string,
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean,
) {
  return fakeRegistry((request, response) => {
    if (intercept(request, response)) return;
    const headers = { ...request.headers, host };
    const [hostname, port] = host.split(':');
    const onward = httpRequest(
      { hostname, port, path: request.url, method: request.method, headers },
      (answer) => {
        const location = answer.headers.location?.replace(host, request.headers.host ?? host);
        response.writeHead(answer.statusCode ?? 502, {
          ...answer.headers,
          ...(location ? { location } : {}),
        });
        answer.pipe(response);
      },
    );
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
}
