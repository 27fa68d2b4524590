/** One registry as seen through authorization: what the parts of the client share. */
import type { Dispatcher } from 'undici';
import { Agent } from 'undici';
import { Authorizer, type Scope } from './auth.ts';
import { BulkConnections } from './bulk-connections.ts';
import { parseChallenges } from './challenge.ts';
import type { FindCredentials } from './credentials.ts';
import { connectorFor, type Endpoint } from './endpoint.ts';
import { abortFailure, type Subject, statusFailure } from './failure.ts';
import { apiHost, isLoopback } from './reference.ts';
import { defaultRetryPolicy, type RetryPolicy, withRetries } from './retry.ts';
import {
  defaultTimeouts,
  discard,
  type HttpRequest,
  type HttpResponse,
  type Timeouts,
  Transport,
} from './transport.ts';

export interface RegistryOptions {
  /** As in Reference.registry: "docker.io", "registry.example:5000". */
  registry: string;
  /** Asked when the registry, or its token service, wants to know who asks. */
  credentials?: FindCredentials | undefined;
  /** This is a mirror of that registry, which it is told with `?ns=`, as containerd tells its mirrors. */
  mirrorOf?: string | undefined;
  /** Plain HTTP. Without it only hosts that are this machine are reached so. */
  plainHttp?: boolean;
  /** Where it is, if that is not what its name says. */
  endpoint?: Endpoint | undefined;
  retry?: Partial<RetryPolicy>;
  timeouts?: Partial<Timeouts>;
  /** Owned by the caller if given (proxies, own certificates). */
  dispatcher?: Dispatcher;
}

const MAX_ERROR_BYTES = 8 * 1024;
/** Credentials that one request tries. */
const MAX_LOGINS = 4;

export class Session {
  readonly registry: string;
  readonly base: URL;
  readonly transport: Transport;
  readonly retry: RetryPolicy;
  readonly #authorizer: Authorizer;
  readonly #mirrorOf: string | undefined;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #owned: { dispatcher: Agent; bulk: BulkConnections } | undefined;

  constructor(options: RegistryOptions) {
    const endpoint = options.endpoint ?? defaultEndpoint(options.registry, options.plainHttp);
    this.registry = options.registry;
    this.#mirrorOf = options.mirrorOf;
    this.base = endpoint.base;
    this.#headers = endpoint.headers;
    this.#owned = options.dispatcher
      ? undefined
      : {
          dispatcher: new Agent({ connect: connectorFor(endpoint) }),
          bulk: new BulkConnections((onread) => connectorFor(endpoint, onread)),
        };
    this.transport = new Transport(
      this.#owned ?? { dispatcher: options.dispatcher as Dispatcher },
      { ...defaultTimeouts, ...options.timeouts },
      Object.keys(endpoint.headers),
    );
    this.retry = { ...defaultRetryPolicy, ...options.retry };
    const nobody = async () => undefined;
    const plain = this.base.protocol === 'http:';
    this.#authorizer = new Authorizer(this.transport, options.credentials ?? nobody, plain);
  }

  /** Closes the connections that this session made; requests under way fail. */
  async close(): Promise<void> {
    this.#owned?.bulk.close();
    await this.#owned?.dispatcher.destroy();
  }

  subject(repository: string, action: string): Subject {
    return { registry: this.registry, repository, action };
  }

  url(repository: string, path: string): URL {
    const url = new URL(`${repository}/${path}`, this.base);
    if (this.#mirrorOf !== undefined) url.searchParams.set('ns', this.#mirrorOf);
    return url;
  }

  isOwn(url: URL): boolean {
    return url.origin === this.base.origin;
  }

  /** Sends with the best Authorization known; for a stream, which cannot be sent twice. */
  sendOnce(subject: Subject, scope: Scope, wanted: HttpRequest): Promise<HttpResponse> {
    return this.transport.send(subject, this.#own(wanted, this.#authorizer.current(scope)));
  }

  /** Sends, and again with new authorization if the registry itself does not take that which is known. */
  async send(subject: Subject, scope: Scope, wanted: HttpRequest): Promise<HttpResponse> {
    let header = this.#authorizer.current(scope);
    for (let logins = 0; ; logins++) {
      const response = await this.transport.send(subject, this.#own(wanted, header));
      if (!this.isOwn(response.url) || !mayRenew(response.status, header) || logins === MAX_LOGINS)
        return response;
      const refusal = await this.failure(subject, response);
      // One that others share may have run out before its turn came here: twice is no chance.
      const better = await this.#answer(subject, scope, response, header, logins > 1);
      if (better === undefined) throw refusal;
      header = better;
    }
  }

  /** Answers the challenge of a 401, which it drops. Undefined if there is nothing better to offer. */
  async renew(subject: Subject, scope: Scope, response: HttpResponse): Promise<string | undefined> {
    await discard(response);
    return this.#answer(subject, scope, response, this.#authorizer.current(scope), false);
  }

  #answer(
    subject: Subject,
    scope: Scope,
    response: HttpResponse,
    rejected: string | undefined,
    wasNew: boolean,
  ): Promise<string | undefined> {
    const challenges = parseChallenges(response.headers['www-authenticate']);
    return this.#authorizer.answer(subject, scope, { challenges, rejected, wasNew });
  }

  /** The error for an answer that is not the one hoped for; reads the start of its body. */
  async failure(subject: Subject, response: HttpResponse): Promise<Error> {
    let text = '';
    try {
      const body = await this.transport.readSmall(
        subject,
        response,
        MAX_ERROR_BYTES,
        AbortSignal.timeout(5_000),
      );
      text = body.toString('utf8');
    } catch {
      // The status says enough.
    }
    return statusFailure(subject, response.status, response.headers, text);
  }

  /** withRetries under this session's policy. */
  retrying<T>(subject: Subject, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    return withRetries(this.retry, signal, (s) => abortFailure(subject, s), work);
  }

  /** Only for the registry's own origin: an upload may be sent on to another. */
  #own(wanted: HttpRequest, authorization: string | undefined): HttpRequest {
    if (!this.isOwn(wanted.url)) return wanted;
    const authorized = authorization === undefined ? {} : { authorization };
    return { ...wanted, headers: { ...this.#headers, ...wanted.headers, ...authorized } };
  }
}

function defaultEndpoint(registry: string, plainHttp: boolean | undefined): Endpoint {
  const host = apiHost(registry);
  const scheme = (plainHttp ?? isLoopback(host)) ? 'http' : 'https';
  return { base: new URL(`${scheme}://${host}/v2/`), ca: [], client: [], skipVerify: false, headers: {} };
}

/** Registries say with 403 that a password of limited life has expired; with a token it is about the repository. */
function mayRenew(status: number, header: string | undefined): boolean {
  return status === 401 || (status === 403 && header?.startsWith('Basic ') === true);
}
