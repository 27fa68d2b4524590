/** Answers GET of /metrics, /healthz and /readyz over HTTP. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { describeError } from '../../proto/status.ts';
import { unavailable } from '../error.ts';
import type { HealthChecks } from '../health.ts';

export interface MetricsSource {
  readonly contentType: string;
  render(): Promise<string>;
}

/** A scraper asks for one small answer at a time. */
const REQUEST_MS = 5_000;
const MAX_CONNECTIONS = 32;

export class MetricsServer {
  readonly #server: Server;

  constructor(source: MetricsSource, health: HealthChecks) {
    this.#server = createServer(
      { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS, keepAliveTimeout: REQUEST_MS },
      (request, response) => void answer(source, health, request, response),
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** `address` is host:port. UNAVAILABLE if it cannot be had. The port, which the system chose where `address` says 0. */
  listen(address: string): Promise<number> {
    const colon = address.lastIndexOf(':');
    const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
    return new Promise((resolve, reject) => {
      this.#server.on('error', (cause) =>
        reject(
          unavailable(`Cannot serve metrics at ${address}: ${cause.message}; change metrics.address`, {
            cause,
          }),
        ),
      );
      this.#server.listen({ host, port: Number(address.slice(colon + 1)) }, () => {
        const bound = this.#server.address();
        resolve(typeof bound === 'object' ? (bound?.port ?? 0) : 0);
      });
    });
  }

  /** Ends at once: a scraper asks again. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

async function answer(
  source: MetricsSource,
  health: HealthChecks,
  { method, url }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const send = (status: number, type: string, body: string) => {
    response.writeHead(status, { 'content-type': type });
    response.end(method === 'HEAD' ? undefined : body);
  };
  const path = url?.split('?')[0];
  if (path !== '/metrics' && path !== '/healthz' && path !== '/readyz')
    return send(404, 'text/plain', 'Here are only /metrics, /healthz and /readyz\n');
  if (method !== 'GET' && method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    return send(405, 'text/plain', 'Only GET and HEAD\n');
  }
  try {
    switch (path) {
      case '/metrics':
        return send(200, source.contentType, await source.render());
      case '/healthz':
        // Whoever gets this far has an event loop that turns.
        health.live();
        return send(200, 'text/plain', 'ok\n');
      case '/readyz':
        await health.ready();
        return send(200, 'text/plain', 'ok\n');
    }
  } catch (error) {
    send(path === '/metrics' ? 500 : 503, 'text/plain', `${describeError(error).message}\n`);
  }
}
