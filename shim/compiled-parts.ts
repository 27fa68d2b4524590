/**
 * The files of this program, and their code as V8 has compiled it, kept for the next server. Node's own cache is made as
 * soon as a file is read, when V8 has compiled little: it compiles a function when it is first called. What a restore
 * runs was compiled anew by each shim.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';

export interface PartsDeps {
  /** Folder of the program's files. */
  folder: string;
  /** Where compiled code is kept; a folder that may be missing, and may be impossible to make. */
  cache: string;
  /** What is no file of the program. */
  require(name: string): unknown;
  crc32(bytes: Uint8Array): number;
}

interface Part {
  exports: unknown;
  script: Script;
  sourceSum: number;
  /** It was compiled from its source. */
  isNew: boolean;
}

/** CRC-32 of the source and of what follows. V8 compares its own version and flags, but of a source only the length. */
const HEADER_BYTES = 8;
const PART = /^\.\/([\w-]+\.cjs)$/;
const BEFORE = '(function (exports, require, module, __filename, __dirname) {';

export class CompiledParts {
  readonly #deps: PartsDeps;
  readonly #parts = new Map<string, Part>();

  constructor(deps: PartsDeps) {
    this.#deps = deps;
  }

  /** What require() is for the program: './NAME.cjs' is one of its files, all else Node's. */
  readonly require = (name: string): unknown => {
    const file = PART.exec(name)?.[1];
    if (file === undefined) return this.#deps.require(name);
    return (this.#parts.get(file) ?? this.#load(file)).exports;
  };

  /**
   * Writes what V8 has compiled of every file, if there is a file whose code was not kept or did not fit, but for those
   * that are `unready`. To be called before V8 collects garbage, which gives up code, and under the flags of a start:
   * under others V8 would refuse it.
   */
  keep(unready: (file: string) => boolean = () => false): void {
    const parts = [...this.#parts].filter(([file]) => !unready(file));
    if (!parts.some(([, { isNew }]) => isNew)) return;
    for (const [file, part] of parts) {
      part.isNew = false;
      this.#write(file, part);
    }
  }

  #load(file: string): Part {
    const { folder, crc32 } = this.#deps;
    const filename = join(folder, file);
    const bytes = readFileSync(filename);
    const sourceSum = crc32(bytes);
    const cachedData = this.#read(file, sourceSum);
    const script = new Script(`${BEFORE}${bytes.toString('utf8')}\n})`, {
      filename,
      columnOffset: -BEFORE.length,
      ...(cachedData && { cachedData }),
    });
    const isNew = cachedData === undefined || script.cachedDataRejected === true;
    const module = { exports: {} as unknown };
    const part: Part = { exports: module.exports, script, sourceSum, isNew };
    const run = script.runInThisContext() as (...values: unknown[]) => void;
    run.call(module.exports, module.exports, this.require, module, filename, folder);
    part.exports = module.exports;
    this.#parts.set(file, part);
    return part;
  }

  #read(file: string, sourceSum: number): Buffer | undefined {
    let kept: Buffer;
    try {
      kept = readFileSync(this.#fileOf(file));
    } catch {
      return undefined;
    }
    if (kept.length < HEADER_BYTES) return undefined;
    const data = kept.subarray(HEADER_BYTES);
    const fits = kept.readUInt32LE(0) === sourceSum && kept.readUInt32LE(4) === this.#deps.crc32(data);
    return fits ? data : undefined;
  }

  #write(file: string, { script, sourceSum }: Part): void {
    const target = this.#fileOf(file);
    // One name for all: a server that is killed here leaves a file that the next one uses. Two that write at once spoil it,
    // which its sum tells whoever reads it.
    const fresh = `${target}.new`;
    try {
      const data = script.createCachedData();
      const header = Buffer.alloc(HEADER_BYTES);
      header.writeUInt32LE(sourceSum, 0);
      header.writeUInt32LE(this.#deps.crc32(data), 4);
      // Its parent is the program's folder: one that was removed does not come back.
      if (!existsSync(this.#deps.cache)) mkdirSync(this.#deps.cache, { mode: 0o700 });
      writeFileSync(fresh, Buffer.concat([header, data]), { mode: 0o600 });
      renameSync(fresh, target);
    } catch {
      // A folder that cannot be written, or a full disk: the next server compiles again.
      removeFile(fresh);
    }
  }

  #fileOf(file: string): string {
    return join(this.#deps.cache, `${file}.code`);
  }
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was not made.
  }
}
