/** What one entry has on disk: its files, what an earlier run of the daemon left in them, and what vouches for either. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChunkIndex } from '../../checkpoint/index-format.ts';
import { chunkAt } from './chunk-lookup.ts';
import { COMPLETE, isMarkedComplete, markComplete } from './complete-marker.ts';
import { ImageFiles, syncPath } from './image-files.ts';
import type { Presence } from './presence.ts';
import { loadPresence, PRESENCE_FILE, type SavedPresence } from './presence-file.ts';
import { PresenceSaver } from './presence-saver.ts';
import { verifyChunks } from './verify.ts';

export interface EntryFilesOptions {
  /** Digest of the index. */
  id: string;
  /** Of the entry; the files are in a folder of their own there. */
  directory: string;
  index: ChunkIndex;
  presence: Presence;
  /** /proc/sys/kernel/random/boot_id. */
  bootId: string;
  /** Monotonic milliseconds. */
  clock: () => number;
}

export class EntryFiles {
  readonly saver: PresenceSaver;
  readonly #options: EntryFilesOptions;
  readonly #files: ImageFiles;
  #made = false;
  /** What an earlier run says is here, until that is taken over. */
  #left: SavedPresence | undefined;

  constructor(options: EntryFilesOptions) {
    const { id, directory, index, presence, bootId, clock } = options;
    this.#options = options;
    this.#files = new ImageFiles(join(directory, 'files'));
    this.saver = new PresenceSaver({
      id,
      directory,
      bootId,
      clock,
      presence,
      writeBack: (isWanted) => this.#files.writeBack(index.files, isWanted),
      syncFiles: () => this.#files.sync(index.files),
    });
  }

  get directory(): string {
    return this.#files.directory;
  }

  /** Finds what an earlier run of the daemon left here; true if that is everything. */
  async find(): Promise<boolean> {
    const { id, directory, index } = this.#options;
    if (!(await this.#files.exist(index.files))) return false;
    if (await isMarkedComplete(directory, id)) return true;
    // A shim may have them mapped, so they stay. Without a map none of their chunks counts as present.
    this.#made = true;
    this.#left = await loadPresence(directory, id, index.chunkCount);
    return false;
  }

  /** Makes them, empty, where they are not here. `whileUnused` runs work while nobody has those of before mapped. */
  async make(whileUnused: (work: () => Promise<void>) => Promise<void>): Promise<void> {
    if (this.#made) return;
    const { directory, index } = this.#options;
    for (const name of [COMPLETE, PRESENCE_FILE]) await rm(join(directory, name), { force: true });
    // Or a power failure could bring them back, above new and empty files of the same sizes.
    await syncPath(directory);
    const create = () => this.#files.create(index.files);
    // A shim locks what it is about to use; until there were files it cannot have mapped any.
    if (existsSync(this.directory)) await whileUnused(create);
    else await create();
    this.#made = true;
  }

  /** Counts as present what an earlier run left, once. */
  async takeOver(signal: AbortSignal): Promise<void> {
    if (!this.#left) return;
    const { bootId, bits } = this.#left;
    const { index, presence } = this.#options;
    const claimed = (ordinal: number) => ((bits[ordinal >> 3] ?? 0) & (1 << (ordinal & 7))) !== 0;
    // Pages that were written in this boot are read back as they were written, whatever the disk does.
    const right =
      bootId === this.#options.bootId
        ? Array.from({ length: index.chunkCount }, (_, ordinal) => ordinal).filter(claimed)
        : await verifyChunks(this.directory, index, claimed, signal);
    for (const ordinal of right) presence.add(ordinal, chunkAt(index, ordinal).chunk.storedLength);
    this.#left = undefined;
  }

  /** Puts everything on disk, at the pace of a guest unless somebody waits, and marks it complete there. */
  async persist(isHurried: () => boolean): Promise<void> {
    const { id, directory, index } = this.#options;
    await this.#files.writeBack(index.files, () => !isHurried());
    await this.#files.sync(index.files);
    await markComplete(directory, id);
    await rm(join(directory, PRESENCE_FILE), { force: true });
  }
}
