/** Sends events to containerd's ttrpc socket; connects anew after containerd restarted. */
import { TtrpcClient } from '../../proto/ttrpc/index.ts';
import type { EventSink } from './queue.ts';

const SERVICE = 'containerd.services.events.ttrpc.v1.Events';
const DEADLINE_MS = 5000;

export class ContainerdSink implements EventSink {
  readonly #path: string;
  readonly #namespace: string;
  #client: TtrpcClient | undefined;

  constructor(path: string, namespace: string) {
    this.#path = path;
    this.#namespace = namespace;
  }

  async send(request: Uint8Array): Promise<void> {
    if (!this.#client?.usable) this.#client = await TtrpcClient.connect(this.#path, DEADLINE_MS);
    await this.#client.call(SERVICE, 'Forward', request, {
      timeoutMs: DEADLINE_MS,
      metadata: { 'containerd-namespace-ttrpc': [this.#namespace] },
    });
  }

  close(): void {
    this.#client?.close();
  }
}
