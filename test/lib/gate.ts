/** An HTTP proxy before a registry that can keep requests waiting, as a network that has stopped. */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { freePort } from './registry.ts';

/** What of a request decides whether it has to wait. */
export interface GatedRequest {
  method: string;
  uri: string;
  /** The Range header. */
  range: string;
}

export class Gate {
  /** `127.0.0.1:PORT`, the first part of an image's name. */
  readonly host: string;
  readonly #server: Server;
  readonly #waiting = new Map<() => void, GatedRequest>();
  /** Requests for which it is true wait until `open` is called. */
  #holds: (request: GatedRequest) => boolean = () => false;

  private constructor(port: number, target: string) {
    this.host = `127.0.0.1:${port}`;
    this.#server = createServer((incoming, answer) => {
      incoming.on('error', () => {});
      answer.on('error', () => {});
      const asked = {
        method: incoming.method ?? '',
        uri: incoming.url ?? '',
        range: incoming.headers.range ?? '',
      };
      const pass = () => forward(target, incoming, answer);
      if (!this.#holds(asked)) return pass();
      this.#waiting.set(pass, asked);
      answer.once('close', () => this.#waiting.delete(pass));
    });
  }

  static async start(target: string): Promise<Gate> {
    const port = await freePort();
    const gate = new Gate(port, target);
    await new Promise<void>((resolve) => gate.#server.listen(port, '127.0.0.1', resolve));
    return gate;
  }

  get waiting(): GatedRequest[] {
    return [...this.#waiting.values()];
  }

  hold(which: (request: GatedRequest) => boolean): void {
    this.#holds = which;
  }

  /** Lets all pass, also those that wait. */
  open(): void {
    this.#holds = () => false;
    for (const pass of this.#waiting.keys()) pass();
    this.#waiting.clear();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function forward(target: string, incoming: IncomingMessage, answer: ServerResponse): void {
  const [host, port] = target.split(':');
  const { method, url: path, headers } = incoming;
  const onward = request({ host, port, method, path, headers, agent: false }, (response) => {
    answer.writeHead(response.statusCode ?? 502, response.headers);
    response.pipe(answer);
    response.on('error', () => answer.destroy());
  });
  onward.on('error', () => answer.destroy());
  answer.on('close', () => onward.destroy());
  incoming.pipe(onward);
}
