/** How a fetch thread gets credentials: from the daemon's own thread. */
import type { CredentialRequest, Credentials } from '../../checkpoint/registry/index.ts';
import { type CredentialsWanted, type ToWorker, unpackError } from './protocol.ts';

type Answer = Extract<ToWorker, { ask: number }>;

interface Pending {
  resolve(found: Credentials | undefined): void;
  reject(error: unknown): void;
}

export class CredentialAsker {
  readonly #send: (message: CredentialsWanted) => void;
  readonly #pending = new Map<number, Pending>();
  #last = 0;

  constructor(send: (message: CredentialsWanted) => void) {
    this.#send = send;
  }

  /** Always answered: the daemon's own search for credentials has a deadline. */
  ask(request: CredentialRequest): Promise<Credentials | undefined> {
    const ask = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#pending.set(ask, { resolve, reject });
      this.#send({ kind: 'credentials', ask, request });
    });
  }

  answered(answer: Answer): void {
    const pending = this.#pending.get(answer.ask);
    this.#pending.delete(answer.ask);
    switch (answer.kind) {
      case 'credentials':
        pending?.resolve(answer.found);
        return;
      case 'no credentials':
        pending?.reject(unpackError(answer.error));
        return;
    }
  }
}
