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
  /** Puts most of what was written to the checkpoint's files on disk, at the pace of a guest. */
  writeBack(isWanted: () => boolean): Promise<void>;
  /** Puts the rest there. */
  syncFiles(): Promise<void>;
}

/** How much of a fetch has come, or how long ago the last save was, when the next one begins. */
const SAVE_BYTES = 256n << 20n;
const SAVE_MS = 5_000;
/**
 * While a fetch is faster than the disk, a sync would have all that came meanwhile to write, and everyone else's wait behind
 * it: the map waits until the disk has caught up to this distance, or for so long. A daemon that is killed loses no more.
 */
const BEHIND_BYTES = 64n << 20n;
const LATE_MS = 30_000;

export class PresenceSaver {
  readonly #options: PresenceSaverOptions;
  #saved = { bytes: 0n, at: 0 };
  #saving: Promise<void> | undefined;
  /** Also when no more bytes come. */
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: PresenceSaverOptions) {
    this.#options = options;
  }

  /** What is here now needs no saving. */
  begin(): void {
    this.#saved = { bytes: this.#options.presence.bytes, at: this.#options.clock() };
    this.resume();
  }

  /** More chunks may come after all; those that came before the stop may still need saving. */
  resume(): void {
    this.#stopped = false;
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
    this.#stopped = true;
    this.#disarm();
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

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #saveSoon(): void {
    this.#disarm();
    if (this.#saving) return;
    // A map that cannot be saved costs another fetch, no more; the end of this one says that the disk fails.
    this.#saving = this.#catchUpAndSave()
      .catch(() => {})
      .finally(() => {
        this.#saving = undefined;
      });
  }

  async #catchUpAndSave(): Promise<void> {
    const { presence, clock, writeBack } = this.#options;
    for (;;) {
      const { bytes } = presence;
      await writeBack(() => !this.#stopped);
      // Whoever stops it puts everything on disk itself.
      if (this.#stopped) return;
      if (presence.bytes - bytes <= BEHIND_BYTES || clock() >= this.#saved.at + LATE_MS) return this.save();
    }
  }
}
