/** The way to a registry, which can be slow, held up, cut, or wrong. */
import { once } from 'node:events';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import { freePort } from './registry.ts';
import { sleep } from './wait.ts';

/** Answers to larger ranges are the stream of everything; smaller ones are what somebody waits for. */
const LARGEST_DEMAND = 2 << 20;
/** Smaller pieces may be headers, which a test does not spoil. */
const LEAST_SPOILED = 16_384;
const NAP_MS = 10;
const RANGE = /\nrange: bytes=(\d+)-(\d+)/i;

export class SlowLink {
  /** `127.0.0.1:PORT`, as of a registry. */
  readonly host: string;
  /** Bytes a second that all streams together get. */
  rate = Number.POSITIVE_INFINITY;
  /** Nothing at all comes through. */
  held = false;
  /** So many pieces of what comes next get a wrong byte. */
  spoil = 0;
  /** Bytes that came through from the registry. */
  sent = 0;
  readonly #target: string;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  /** When the link is free again. */
  #free = 0;

  private constructor(host: string, target: string) {
    this.host = host;
    this.#target = target;
  }

  static async start(target: string): Promise<SlowLink> {
    const link = new SlowLink(`127.0.0.1:${await freePort()}`, target);
    await link.mend();
    return link;
  }

  /** Every connection breaks, new ones are refused. */
  async cut(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const socket of this.#sockets) socket.destroy();
    if (server) await new Promise((done) => server.close(done));
  }

  async mend(): Promise<void> {
    await this.cut();
    const [hostname = '', port] = this.host.split(':');
    this.#server = createServer((client) => this.#accept(client));
    this.#server.listen(Number(port), hostname);
    await once(this.#server, 'listening');
  }

  #accept(client: Socket): void {
    const [hostname = '', port] = this.#target.split(':');
    const registry = dial(Number(port), hostname);
    for (const socket of [client, registry]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        registry.destroy();
      });
    }
    let stream = false;
    client.on('data', (request: Buffer) => {
      const [, first, last] = RANGE.exec(request.toString('latin1')) ?? [];
      stream = Number(last) - Number(first) >= LARGEST_DEMAND;
      registry.write(request);
    });
    client.once('end', () => registry.end());
    this.#pass(registry, client, () => stream).catch(() => client.destroy());
  }

  async #pass(registry: Socket, client: Socket, isStream: () => boolean): Promise<void> {
    for await (const piece of registry as AsyncIterable<Buffer>) {
      while (!client.destroyed && !this.#lets(piece.length, isStream())) await sleep(NAP_MS);
      if (client.destroyed) return;
      this.sent += piece.length;
      if (this.spoil > 0 && piece.length >= LEAST_SPOILED) {
        this.spoil -= 1;
        const last = piece.length - 1;
        piece[last] = (piece[last] ?? 0) ^ 0xff;
      }
      if (!client.write(piece)) await once(client, 'drain');
    }
    client.end();
  }

  /** Whether so many bytes may pass now; if so they have. */
  #lets(bytes: number, stream: boolean): boolean {
    if (this.held) return false;
    if (!stream || this.rate === Number.POSITIVE_INFINITY) return true;
    const now = performance.now();
    if (this.#free > now) return false;
    this.#free = Math.max(this.#free, now - NAP_MS) + (bytes / this.rate) * 1000;
    return true;
  }
}
