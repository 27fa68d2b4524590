/** A proxy before a registry, with a token service and a blob store of its own, that misbehaves as it is told. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

/** What happens to a request for a blob of `spoilt`. */
export type Fault =
  | { kind: 'none' }
  /** Answered with this status, and nothing else. */
  | { kind: 'status'; status: number; headers?: Record<string, string> }
  /** Range is ignored: the whole blob with 200. */
  | { kind: 'whole' }
  /** Content-Range, and the bytes, are `by` bytes further. */
  | { kind: 'shifted'; by: number }
  /** The connection is reset after so many bytes. */
  | { kind: 'reset'; after: number }
  /** The answer ends after so many bytes, as if that were all of it. */
  | { kind: 'short'; after: number }
  /** Nothing comes after so many bytes, and the connection stays. */
  | { kind: 'stall'; after: number }
  /** A byte at a time. */
  | { kind: 'drip' }
  /** One bit is wrong. */
  | { kind: 'corrupt' }
  /** Said to be compressed. */
  | { kind: 'encoded' }
  /** Sent on to the store, which serves an address so often. */
  | { kind: 'redirect'; uses: number }
  /** Sent on to itself. */
  | { kind: 'loop' };

export interface SeenRequest {
  at: 'registry' | 'store' | 'tokens';
  method: string;
  uri: string;
  authorization: string | undefined;
}

/** Whoever wants a token must have the password; a token is good for so many requests. */
export interface Login {
  username: string;
  password: string;
  usesOfToken: number;
}

const DRIP_MS = 200;

export class FaultProxy {
  readonly seen: SeenRequest[] = [];
  /** Blobs that the fault is for, by digest. */
  readonly spoilt = new Set<string>();
  login: Login | undefined;
  /** How often the fault happened since it was set. */
  happened = 0;
  readonly #target: string;
  readonly #registry: Server;
  /** On another port, which is another host as far as credentials are concerned. */
  readonly #store: Server;
  readonly #connections = new Set<Socket>();
  readonly #signatures = new Map<string, number>();
  readonly #tokens = new Map<string, number>();
  #fault: Fault = { kind: 'none' };
  #left = 0;

  private constructor(target: string) {
    this.#target = target;
    this.#registry = this.#serve((incoming, answer) => this.#asRegistry(incoming, answer));
    this.#store = this.#serve((incoming, answer) => this.#asStore(incoming, answer));
  }

  static async start(target: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(target);
    for (const server of [proxy.#registry, proxy.#store]) await listen(server, 0);
    return proxy;
  }

  /** `127.0.0.1:PORT`, the first part of an image's name. */
  get host(): string {
    return hostOf(this.#registry);
  }

  /** For the next `times` requests; all if not given. */
  set(fault: Fault, times = Number.POSITIVE_INFINITY): void {
    this.#fault = fault;
    this.#left = times;
    this.happened = 0;
  }

  /** Another password from now on, and no token is good any more. */
  changePassword(password: string): void {
    if (this.login) this.login = { ...this.login, password };
    for (const token of this.#tokens.keys()) this.#tokens.set(token, 0);
  }

  /** Secrets that were given away, none of which may be seen anywhere. */
  secrets(): string[] {
    return [...this.#signatures.keys(), ...this.#tokens.keys()];
  }

  async stop(): Promise<void> {
    for (const socket of this.#connections) socket.destroy();
    for (const server of [this.#registry, this.#store]) await new Promise((done) => server.close(done));
  }

  #serve(handle: (incoming: IncomingMessage, answer: ServerResponse) => void): Server {
    const server = createServer((incoming, answer) => {
      incoming.on('error', () => {});
      answer.on('error', () => {});
      handle(incoming, answer);
    });
    server.on('connection', (socket) => {
      this.#connections.add(socket);
      socket.once('close', () => this.#connections.delete(socket));
    });
    return server;
  }

  #note(at: SeenRequest['at'], { method = '', url: uri = '', headers }: IncomingMessage): void {
    this.seen.push({ at, method, uri, authorization: headers.authorization });
  }

  #asRegistry(incoming: IncomingMessage, answer: ServerResponse): void {
    const { pathname } = new URL(incoming.url ?? '', `http://${this.host}`);
    if (pathname === '/token') {
      this.#giveToken(incoming, answer);
      return;
    }
    this.#note('registry', incoming);
    if (!this.#letsIn(incoming)) {
      const challenge = `Bearer realm="http://${this.host}/token",service="faults"`;
      answer.writeHead(401, { 'www-authenticate': challenge }).end();
      return;
    }
    const digest = pathname.split('/').at(-1) ?? '';
    if (!this.spoilt.has(digest) || this.#left <= 0 || this.#fault.kind === 'none') {
      this.#forward(incoming, answer);
      return;
    }
    this.#left -= 1;
    this.happened += 1;
    this.#spoil(incoming, answer, this.#fault);
  }

  #asStore(incoming: IncomingMessage, answer: ServerResponse): void {
    this.#note('store', incoming);
    const signature = new URL(incoming.url ?? '', 'http://store').searchParams.get('signature') ?? '';
    const left = this.#signatures.get(signature) ?? 0;
    this.#signatures.set(signature, left - 1);
    if (left <= 0) answer.writeHead(403).end('<Error><Code>AccessDenied</Code></Error>');
    else this.#forward(incoming, answer);
  }

  #giveToken(incoming: IncomingMessage, answer: ServerResponse): void {
    this.#note('tokens', incoming);
    const { username = '', password = '', usesOfToken = 0 } = this.login ?? {};
    const basic = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
    if (incoming.headers.authorization !== basic) {
      answer.writeHead(401).end();
      return;
    }
    const token = randomBytes(24).toString('hex');
    this.#tokens.set(token, usesOfToken);
    answer.end(JSON.stringify({ token, expires_in: 300 }));
  }

  #letsIn({ headers }: IncomingMessage): boolean {
    if (!this.login) return true;
    const token = headers.authorization?.replace(/^Bearer /, '') ?? '';
    const left = this.#tokens.get(token) ?? 0;
    if (left <= 0) return false;
    this.#tokens.set(token, left - 1);
    return true;
  }

  #spoil(incoming: IncomingMessage, answer: ServerResponse, fault: Fault): void {
    switch (fault.kind) {
      case 'none':
        this.#forward(incoming, answer);
        return;
      case 'status':
        answer.writeHead(fault.status, fault.headers ?? {}).end();
        return;
      case 'whole':
        this.#forward(incoming, answer, { range: '' });
        return;
      case 'shifted':
        this.#forward(incoming, answer, { range: shift(incoming.headers.range ?? '', fault.by) });
        return;
      case 'redirect': {
        const signature = randomBytes(24).toString('hex');
        this.#signatures.set(signature, fault.uses);
        const location = `http://${hostOf(this.#store)}${incoming.url}?signature=${signature}`;
        answer.writeHead(307, { location }).end();
        return;
      }
      case 'loop':
        answer.writeHead(307, { location: incoming.url ?? '/' }).end();
        return;
      case 'encoded':
        this.#forward(incoming, answer, { encoding: 'gzip' });
        return;
      case 'reset':
      case 'short':
      case 'stall':
      case 'drip':
      case 'corrupt':
        this.#forward(incoming, answer, { body: fault });
        return;
    }
  }

  #forward(
    incoming: IncomingMessage,
    answer: ServerResponse,
    change: {
      range?: string;
      encoding?: string;
      body?: Extract<Fault, { kind: 'reset' | 'short' | 'stall' | 'drip' | 'corrupt' }>;
    } = {},
  ): void {
    const [host, port] = this.#target.split(':');
    const { authorization: _, range = '', ...rest } = incoming.headers;
    const wanted = change.range ?? range;
    const headers = wanted === '' ? rest : { ...rest, range: wanted };
    const path = (incoming.url ?? '').replace(/\?signature=.*/, '');
    const onward = request(
      { host, port, method: incoming.method, path, headers, agent: false },
      (response) => {
        response.on('error', () => answer.destroy());
        const sent = { ...response.headers };
        if (change.encoding !== undefined) sent['content-encoding'] = change.encoding;
        // Then its end is an ordinary one.
        if (change.body?.kind === 'short') delete sent['content-length'];
        answer.writeHead(response.statusCode ?? 502, sent);
        if (change.body) spoilBody(response, answer, change.body).catch(() => answer.destroy());
        else response.pipe(answer);
      },
    );
    onward.on('error', () => answer.destroy());
    answer.on('close', () => onward.destroy());
    incoming.pipe(onward);
  }
}

async function spoilBody(
  response: IncomingMessage,
  answer: ServerResponse,
  fault: Extract<Fault, { kind: 'reset' | 'short' | 'stall' | 'drip' | 'corrupt' }>,
): Promise<void> {
  let passed = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    if (answer.destroyed) return;
    switch (fault.kind) {
      case 'corrupt':
        if (passed === 0) piece.writeUInt8(piece.readUInt8(0) ^ 1, 0);
        await write(answer, piece);
        break;
      case 'drip':
        for (const byte of piece) {
          if (answer.destroyed) return;
          answer.write(Buffer.of(byte));
          await new Promise((done) => setTimeout(done, DRIP_MS));
        }
        break;
      case 'reset':
      case 'short':
      case 'stall':
        await write(answer, piece.subarray(0, Math.max(0, fault.after - passed)));
        break;
    }
    passed += piece.length;
    if ('after' in fault && passed >= fault.after) break;
  }
  switch (fault.kind) {
    case 'stall':
      await once(answer, 'close');
      return;
    case 'reset':
      answer.socket?.resetAndDestroy();
      return;
    case 'short':
    case 'drip':
    case 'corrupt':
      answer.end();
      return;
  }
}

async function write(answer: ServerResponse, bytes: Buffer): Promise<void> {
  if (bytes.length === 0 || answer.write(bytes)) return;
  const settled = new AbortController();
  const { signal } = settled;
  await Promise.race([once(answer, 'drain', { signal }), once(answer, 'close', { signal })]);
  settled.abort();
}

function shift(range: string, by: number): string {
  return range.replace(/\d+/g, (digits) => String(Number(digits) + by));
}

function hostOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function listen(server: Server, port: number): Promise<void> {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
}
