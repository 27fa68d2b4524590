/** Writes down now and then which chunks of a fetch are here, so that little of it is lost with the daemon or the machine. */
import type { Presence } from './presence.ts';
import { savePresence } from './presence-file.ts';

export interface PresenceSaverOptions {
  /** Digest of the index. */
  id: string;
  /** Of the entry, where the map lies. */
  directory: string;
  bootId: string;
  /** Monotonic milliseconds. */
  clock: () => number;
  presence: Presence;
  /** Puts on disk what was written to the checkpoint's files. */
  syncFiles(): Promise<void>;
}

/** What a daemon that is killed may lose of a fetch, and how long. */
const SAVE_BYTES = 256n << 20n;
const SAVE_MS = 5_000;

export class PresenceSaver {
  readonly #options: PresenceSaverOptions;
  #saved = { bytes: 0n, at: 0 };
  #saving: Promise<void> | undefined;
  /** Also when no more bytes come. */
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PresenceSaverOptions) {
    this.#options = options;
  }

  /** What is here now needs no saving. */
  begin(): void {
    this.#saved = { bytes: this.#options.presence.bytes, at: this.#options.clock() };
  }

  /** Chunks have come. */
  arrived(): void {
    const { presence, clock } = this.#options;
    const { bytes, at } = this.#saved;
    const due = presence.bytes >= bytes + SAVE_BYTES || clock() >= at + SAVE_MS;
    if (due) this.#saveSoon();
    else this.#timer ??= setTimeout(() => this.#saveSoon(), SAVE_MS).unref();
  }

  /** No more chunks come. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Nothing is being written any more. */
  async settled(): Promise<void> {
    await this.#saving;
  }

  /** Puts the chunks that are here on disk, then says so there. */
  async save(): Promise<void> {
    const { id, directory, bootId, clock, presence, syncFiles } = this.#options;
    const { bytes } = presence;
    if (bytes === this.#saved.bytes) return;
    this.#saved = { bytes, at: clock() };
    const bits = presence.bits();
    await syncFiles();
    await savePresence(directory, id, { bootId, bits });
  }

  #saveSoon(): void {
    this.stop();
    if (this.#saving) return;
    // A map that cannot be saved costs another fetch, no more; the end of this one says that the disk fails.
    this.#saving = this.save()
      .catch(() => {})
      .finally(() => {
        this.#saving = undefined;
      });
  }
}
