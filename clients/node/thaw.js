// @ts-check
/**
 * Learn that this process was restored from a checkpoint, and who it is now. No dependencies; Node 18 or later.
 *
 * A process that thaw restores goes on where it was saved: with the environment, the host name and the random numbers of
 * the pod it was saved in. Before it runs, thaw writes the file /run/thaw/restore.json about the pod it is in now.
 *
 *     const watch = new Watch();            // once, when the process starts
 *
 *     function handle(request) {
 *       const restore = watch.restored();   // one stat(2); undefined but for the first call after a restore
 *       if (restore) restore.apply();
 *     }
 *
 * Where nothing calls regularly, `onRestore(callback)` looks ten times a second.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { env, pid } from 'node:process';

export const RESTORE_FILE = '/run/thaw/restore.json';

/**
 * @typedef {object} Told What the file says.
 * @property {string} id
 * @property {string} restoredAt
 * @property {{ name: string, namespace?: string, uid?: string }} [pod]
 * @property {{ name?: string, id: string }} container
 * @property {string} [hostname]
 * @property {string[]} addresses
 * @property {Record<string, string>} env
 * @property {string} seed
 * @property {{ id?: string, created?: string, image?: string }} checkpoint
 */

/** One restore of this container. */
export class Restore {
  /** @param {Told} told */
  constructor(told) {
    /** New for each restore. */
    this.id = told.id;
    /** RFC 3339. */
    this.restoredAt = told.restoredAt;
    this.pod = told.pod;
    this.container = told.container;
    this.hostname = told.hostname;
    this.addresses = told.addresses;
    /** Of the container now; process.env is that of the one it was saved in until `apply` is called. */
    this.env = told.env;
    /** 32 random bytes, others for each restore. */
    this.seed = Buffer.from(told.seed, 'hex');
    this.checkpoint = told.checkpoint;
  }

  /**
   * 32 bytes for one generator of this process: others for another purpose, another process, another replica.
   * @param {string} purpose
   */
  seedFor(purpose) {
    return createHash('sha256').update(this.seed).update(`\0${pid}\0${purpose}`).digest();
  }

  /**
   * Takes over the new environment. Math.random cannot be given a seed; node:crypto goes on with OpenSSL's state, which
   * every replica has until OpenSSL fetches fresh bytes by itself: take what must differ from `randomBytes` below.
   */
  apply() {
    for (const name of Object.keys(env)) if (!Object.hasOwn(this.env, name)) delete env[name];
    Object.assign(env, this.env);
  }
}

/** Notices restores that come after it was made. */
export class Watch {
  /** @type {string} */ #path;
  /** @type {string} */ #seen;
  /** @type {string | undefined} */ #id;

  constructor(path = RESTORE_FILE) {
    this.#path = path;
    this.#seen = stateOf(path);
    this.#id = this.#seen === '' ? undefined : read(path)?.id;
  }

  /**
   * The restore that has taken place since the last call, or since this object was made.
   * @returns {Restore | undefined}
   */
  restored() {
    const state = stateOf(this.#path);
    if (state === this.#seen) return undefined;
    const restore = read(this.#path);
    this.#seen = state;
    if (restore === undefined || restore.id === this.#id) return undefined;
    this.#id = restore.id;
    return restore;
  }
}

/**
 * Calls back after each restore; does not keep the process alive.
 * @param {(restore: Restore) => void} callback
 * @param {{ path?: string, intervalMs?: number }} [options]
 * @returns {() => void} ends it
 */
export function onRestore(callback, { path = RESTORE_FILE, intervalMs = 100 } = {}) {
  const watch = new Watch(path);
  const timer = setInterval(() => {
    const restore = watch.restored();
    if (restore) callback(restore);
  }, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}

/**
 * From the kernel, never from a state that was saved.
 * @param {number} length
 */
export function randomBytes(length) {
  const fd = openSync('/dev/urandom', 'r');
  try {
    const bytes = Buffer.alloc(length);
    for (let done = 0; done < length; ) done += readSync(fd, bytes, done, length - done, null);
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/**
 * Empty where there is no such file.
 * @param {string} path
 */
function stateOf(path) {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? '' : `${found.dev} ${found.ino} ${found.mtimeNs}`;
}

/**
 * Undefined where it is not ours, or gone again while the container is being saved.
 * @param {string} path
 */
function read(path) {
  try {
    return new Restore(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}
