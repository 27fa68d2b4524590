/** A small registry in memory on a loopback port that can be told to misbehave in any way. */
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { digestOf } from '../digest.ts';

export interface SeenRequest {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
}

/** Returns true if it dealt with the request. `n` counts the requests it was asked about, from 1. */
export type Fault = (request: IncomingMessage, response: ServerResponse, n: number) => boolean;

export class FaultServer {
  readonly blobs = new Map<string, Buffer>();
  /** By "repository:selector". */
  readonly manifests = new Map<string, { mediaType: string; bytes: Buffer }>();
  readonly requests: SeenRequest[] = [];
  /** Needed to be let in, if set. */
  authorization: string | undefined;
  challenge = '';
  fault: Fault | undefined;
  #count = 0;
  #uploads = 0;
  readonly #server: Server;
  readonly #scheme: 'http' | 'https';

  private constructor(tls: ServerOptions | undefined) {
    const handle = (request: IncomingMessage, response: ServerResponse) => {
      request.on('error', () => {});
      response.on('error', () => {});
      this.#handle(request, response).catch(() => response.destroy());
    };
    this.#scheme = tls ? 'https' : 'http';
    this.#server = tls ? createTlsServer(tls, handle) : createServer(handle);
  }

  /** With TLS if its options are given. */
  static async start(tls?: ServerOptions): Promise<FaultServer> {
    const server = new FaultServer(tls);
    await new Promise<void>((done) => server.#server.listen(0, '127.0.0.1', done));
    return server;
  }

  /** "127.0.0.1:<port>". */
  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get url(): string {
    return `${this.#scheme}://${this.host}`;
  }

  addBlob(bytes: Buffer): { digest: string; size: number } {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return { digest, size: bytes.length };
  }

  addManifest(repository: string, tag: string, mediaType: string, document: unknown): string {
    const bytes = Buffer.from(JSON.stringify(document));
    const digest = digestOf(bytes);
    this.manifests.set(`${repository}:${tag}`, { mediaType, bytes });
    this.manifests.set(`${repository}:${digest}`, { mediaType, bytes });
    return digest;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request;
    this.requests.push({ method, url, headers });
    if (this.fault?.(request, response, ++this.#count)) return;
    if (this.authorization !== undefined && headers.authorization !== this.authorization) {
      response.writeHead(401, { 'www-authenticate': this.challenge });
      response.end('{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}');
      return;
    }
    const { pathname, searchParams } = new URL(url, this.url);
    if (pathname === '/v2/') return void response.end('{}');
    const match = /^\/v2\/(.+)\/(blobs\/uploads|blobs|manifests)\/(.*)$/.exec(pathname);
    if (!match) return void response.writeHead(404).end();
    const [, repository = '', kind, rest = ''] = match;
    if (kind === 'manifests') return this.#manifest(request, response, repository, rest);
    if (kind === 'blobs') return sendBlob(request, response, this.blobs.get(rest));
    if (method === 'POST') {
      const mount = searchParams.get('mount');
      if (mount !== null && this.blobs.has(mount)) return void response.writeHead(201).end();
      const location = `/v2/${repository}/blobs/uploads/${++this.#uploads}?_state=x`;
      return void response.writeHead(202, { location }).end();
    }
    const body = await readAll(request);
    if (digestOf(body) !== searchParams.get('digest')) return void response.writeHead(400).end();
    this.addBlob(body);
    response.writeHead(201).end();
  }

  async #manifest(
    request: IncomingMessage,
    response: ServerResponse,
    repository: string,
    selector: string,
  ): Promise<void> {
    if (request.method === 'PUT') {
      const bytes = await readAll(request);
      const mediaType = request.headers['content-type'] ?? '';
      this.manifests.set(`${repository}:${selector}`, { mediaType, bytes });
      this.manifests.set(`${repository}:${digestOf(bytes)}`, { mediaType, bytes });
      return void response.writeHead(201, { 'docker-content-digest': digestOf(bytes) }).end();
    }
    const found = this.manifests.get(`${repository}:${selector}`);
    if (!found) {
      response.writeHead(404);
      return void response.end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}');
    }
    response.writeHead(200, {
      'content-type': found.mediaType,
      'content-length': found.bytes.length,
      'docker-content-digest': digestOf(found.bytes),
    });
    response.end(found.bytes);
  }
}

/** A blob as a good registry sends it, with ranges. */
export function sendBlob(request: IncomingMessage, response: ServerResponse, blob: Buffer | undefined): void {
  if (!blob) return void response.writeHead(404).end();
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  if (!range) {
    response.writeHead(200, { 'content-length': blob.length });
    return void response.end(request.method === 'HEAD' ? undefined : blob);
  }
  const [first, last] = [Number(range[1]), Math.min(Number(range[2]), blob.length - 1)];
  if (first >= blob.length) return void response.writeHead(416).end();
  response.writeHead(206, {
    'content-length': last - first + 1,
    'content-range': `bytes ${first}-${last}/${blob.length}`,
  });
  response.end(blob.subarray(first, last + 1));
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
