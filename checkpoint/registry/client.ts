import { digestOf } from '../digest.ts';
import { contentFailure } from './failure.ts';
import type { Platform } from './manifest.ts';
import { type PulledImage, pullImage, pullManifest, type RawManifest } from './pull-manifest.ts';
import { type BlobSource, type PushOptions, type PushOutcome, pushBlob } from './push-blob.ts';
import {
  BlobLocations,
  type BlobRef,
  headBlob,
  readBlob,
  readBlobBytes,
  readBlobRange,
} from './read-blob.ts';
import type { Reference } from './reference.ts';
import { type RegistryOptions, Session } from './session.ts';
import { discard } from './transport.ts';

/** What every call takes: abort it, and give it a deadline with AbortSignal.timeout. */
export interface CallOptions {
  signal?: AbortSignal | undefined;
}

/**
 * One registry. Every call retries what may pass (network errors, 429, 5xx) with backoff, gives up on stalls, and
 * throws CheckpointError naming registry, repository, status and what to do; never credentials. close() when done.
 */
export class RegistryClient {
  readonly #session: Session;
  readonly #locations = new BlobLocations();

  constructor(options: RegistryOptions) {
    this.#session = new Session(options);
  }

  async close(): Promise<void> {
    await this.#session.close();
  }

  /** Whether this is a registry: GET /v2/. One that asks to log in is one. */
  async ping({ signal }: CallOptions = {}): Promise<void> {
    const session = this.#session;
    const subject = session.subject('/', 'reach the registry');
    await session.retrying(subject, signal, async () => {
      const response = await session.transport.send(subject, {
        method: 'GET',
        url: session.base,
        headers: {},
        signal,
      });
      if (response.status !== 200 && response.status !== 401) throw await session.failure(subject, response);
      await discard(response);
    });
  }

  /** Manifest or index by tag or digest, its bytes verified. */
  manifest(repository: string, selector: string, { signal }: CallOptions = {}): Promise<RawManifest> {
    return pullManifest(this.#session, repository, selector, signal);
  }

  /** Manifest and config of the image for a platform, verified. */
  image(reference: Reference, platform: Platform, { signal }: CallOptions = {}): Promise<PulledImage> {
    return pullImage(this.#session, reference, platform, signal);
  }

  /** Size of a blob, undefined if it is not there. */
  headBlob(repository: string, digest: string, { signal }: CallOptions = {}): Promise<number | undefined> {
    return headBlob(this.#session, repository, digest, signal);
  }

  /** A whole blob as it comes. Throws dataLoss at the end if the digest is wrong: use nothing before the end. */
  readBlob(repository: string, blob: BlobRef, { signal }: CallOptions = {}): AsyncGenerator<Buffer> {
    return readBlob(this.#session, repository, blob, signal);
  }

  /** A whole blob in memory, verified, refused above `maxBytes`. */
  readBlobBytes(
    repository: string,
    blob: BlobRef,
    maxBytes: number,
    { signal }: CallOptions = {},
  ): Promise<Buffer> {
    return readBlobBytes(this.#session, repository, blob, maxBytes, signal);
  }

  /**
   * Exactly `length` bytes from `offset` on, as they come, continued over broken connections. Not verified: the
   * caller holds the digests of the parts. Each part is valid until the next is asked for. Leaving the loop ends the transfer.
   */
  readRange(
    repository: string,
    digest: string,
    offset: number,
    length: number,
    { signal }: CallOptions = {},
  ): AsyncGenerator<Buffer> {
    return readBlobRange(this.#session, repository, digest, offset, length, {
      signal,
      locations: this.#locations,
    });
  }

  pushBlob(repository: string, blob: BlobSource, options: PushOptions = {}): Promise<PushOutcome> {
    return pushBlob(this.#session, repository, blob, options);
  }

  /** Puts a manifest under a tag or its digest. All blobs it names must be there. Returns its digest. */
  async pushManifest(
    repository: string,
    selector: string,
    mediaType: string,
    bytes: Uint8Array,
    { signal }: CallOptions = {},
  ): Promise<string> {
    const session = this.#session;
    const subject = session.subject(repository, `push the manifest ${selector}`);
    const digest = digestOf(bytes);
    return session.retrying(subject, signal, async () => {
      const response = await session.send(
        subject,
        { repository, actions: 'pull,push' },
        {
          method: 'PUT',
          url: session.url(repository, `manifests/${selector}`),
          headers: { 'content-type': mediaType },
          body: bytes,
          signal,
        },
      );
      if (response.status !== 201 && response.status !== 200) throw await session.failure(subject, response);
      await discard(response);
      const stated = response.headers['docker-content-digest'];
      if (typeof stated === 'string' && stated.startsWith('sha256:') && stated !== digest)
        throw contentFailure(subject, 'the registry stored other bytes than were sent');
      return digest;
    });
  }
}
