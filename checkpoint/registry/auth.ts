/** Authorization for one registry: Basic, and the bearer tokens of the distribution-spec's token flow. */
import { z } from 'zod';
import type { Challenge } from './challenge.ts';
import type { Credentials, FindCredentials } from './credentials.ts';
import { contentFailure, type Subject, statusFailure, transportFailure } from './failure.ts';
import { isLoopback } from './reference.ts';
import type { HttpRequest, Transport } from './transport.ts';

/** What a request may do; a token is asked for exactly that. */
export interface Scope {
  repository: string;
  actions: 'pull' | 'pull,push';
  /** Another repository that is read too: the source of a mount. */
  alsoPull?: string;
}

const answerSchema = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().optional(),
});

/** A token without expires_in is good for a minute (distribution's token specification). */
const DEFAULT_LIFETIME_S = 60;
const MAX_ANSWER_BYTES = 256 * 1024;
const TOKEN_DEADLINE_MS = 60_000;

interface Token {
  header: string;
  /** In performance.now() time. */
  usableUntil: number;
  madeWith: Credentials | undefined;
}

/** So many credentials that were refused are remembered for a repository. */
const MAX_REFUSED = 16;

export interface Refusal {
  challenges: readonly Challenge[];
  /** The Authorization header that the refused request carried. */
  rejected: string | undefined;
  /** Tokens made for this very request were refused, so that it is their credentials that are. */
  wasNew: boolean;
}

export class Authorizer {
  readonly #transport: Transport;
  readonly #find: FindCredentials;
  readonly #plainHttp: boolean;
  readonly #tokens = new Map<string, Token>();
  /** The credentials that are sent as they are, for each repository. */
  readonly #basic = new Map<string, Credentials>();
  readonly #refused = new Map<string, Credentials[]>();
  readonly #pending = new Map<string, Promise<string | undefined>>();

  constructor(transport: Transport, find: FindCredentials, plainHttp: boolean) {
    this.#transport = transport;
    this.#find = find;
    this.#plainHttp = plainHttp;
  }

  /** The Authorization header to try first; undefined if none is known to be needed. */
  current(scope: Scope): string | undefined {
    const basic = this.#basic.get(scope.repository);
    if (basic) return basicHeader(basic);
    const token = this.#tokens.get(keyOf(scope));
    return token && token.usableUntil > performance.now() ? token.header : undefined;
  }

  /** The header to try after a refusal. Undefined if there is nothing better to offer: the refusal is final then. */
  async answer(subject: Subject, scope: Scope, refusal: Refusal): Promise<string | undefined> {
    const known = this.current(scope);
    if (known !== undefined && known !== refusal.rejected) return known;
    // Many ranges that meet one expired token ask for one new token.
    const key = keyOf(scope);
    const running = this.#pending.get(key);
    if (running) return running;
    const started = this.#renew(subject, scope, refusal).finally(() => this.#pending.delete(key));
    this.#pending.set(key, started);
    return started;
  }

  async #renew(subject: Subject, scope: Scope, refusal: Refusal): Promise<string | undefined> {
    const { challenges, rejected, wasNew } = refusal;
    const basic = this.#basic.get(scope.repository);
    if (basic && basicHeader(basic) === rejected) this.#refuse(scope.repository, basic);
    const token = this.#tokens.get(keyOf(scope));
    if (token && token.header === rejected) {
      this.#tokens.delete(keyOf(scope));
      // Without credentials it was made for anybody, and would be again.
      if (wasNew && !token.madeWith) return undefined;
      if (wasNew && token.madeWith) this.#refuse(scope.repository, token.madeWith);
    }
    const bearer = challenges.find((c) => c.scheme === 'bearer' && c.parameters['realm']);
    if (bearer) return this.#fetchToken(subject, bearer, scope, wasNew);
    // A refusal without any challenge is a 403 of a registry that takes Basic.
    if (challenges.length > 0 && !challenges.some((c) => c.scheme === 'basic')) return undefined;
    while (true) {
      const found = await this.#next(subject, scope.repository);
      if (!found) return undefined;
      const header = basicHeader(found);
      if (header !== undefined) {
        this.#basic.set(scope.repository, found);
        return header;
      }
      // A refresh token is for token services.
      this.#refuse(scope.repository, found);
    }
  }

  #refuse(repository: string, credentials: Credentials): void {
    this.#basic.delete(repository);
    this.#refused.set(
      repository,
      [...(this.#refused.get(repository) ?? []), credentials].slice(-MAX_REFUSED),
    );
  }

  /** When all were refused the next request begins anew: a registry can refuse what is right for a moment. */
  async #next(subject: Subject, repository: string): Promise<Credentials | undefined> {
    const refused = this.#refused.get(repository) ?? [];
    const found = await this.#find({ registry: subject.registry, repository, refused });
    if (!found) this.#refused.delete(repository);
    return found;
  }

  /** `needed`: a token for anybody was refused, or the credentials of the last one. */
  async #fetchToken(
    subject: Subject,
    challenge: Challenge,
    scope: Scope,
    needed: boolean,
  ): Promise<string | undefined> {
    const asking: Subject = { ...subject, action: `${subject.action}, as no token could be had` };
    let failure: Error | undefined;
    while (true) {
      const credentials = await this.#next(subject, scope.repository);
      // All were refused.
      if (!credentials && failure) throw failure;
      if (!credentials && needed) return undefined;
      const answer = await this.#askForToken(asking, challenge, scope, credentials);
      if (typeof answer === 'string') return answer;
      failure ??= answer;
      if (!credentials) throw failure;
      this.#refuse(scope.repository, credentials);
    }
  }

  /** A header, or the error of a token service that does not take these credentials. */
  async #askForToken(
    asking: Subject,
    challenge: Challenge,
    scope: Scope,
    credentials: Credentials | undefined,
  ): Promise<string | Error> {
    // Its own deadline: the callers who share it have different ones.
    const signal = AbortSignal.timeout(TOKEN_DEADLINE_MS);
    const request = this.#tokenRequest(asking, challenge, scope, credentials);
    const response = await this.#transport.send(asking, { ...request, signal });
    const body = await this.#transport.readSmall(asking, response, MAX_ANSWER_BYTES, signal);
    if (response.status !== 200) {
      const failure = statusFailure(asking, response.status, response.headers, body.toString('utf8'));
      // 400 is what a refresh token gets that has expired (RFC 6749 §5.2).
      if (response.status === 400 || response.status === 401 || response.status === 403) return failure;
      throw failure;
    }
    const answer = parseAnswer(body);
    const value = answer?.token ?? answer?.access_token;
    // Whatever goes into a header must not be able to end it.
    if (value === undefined || !/^[\x21-\x7e]+$/.test(value))
      throw contentFailure(asking, 'the token service sent no token');
    const lifetimeS = Math.max(answer?.expires_in ?? DEFAULT_LIFETIME_S, 1);
    const header = `Bearer ${value}`;
    const usableUntil = performance.now() + lifetimeS * 900;
    this.#tokens.set(keyOf(scope), { header, usableUntil, madeWith: credentials });
    return header;
  }

  #tokenRequest(
    subject: Subject,
    challenge: Challenge,
    scope: Scope,
    credentials: Credentials | undefined,
  ): HttpRequest {
    const { realm = '', service } = challenge.parameters;
    const url = this.#realmUrl(subject, realm);
    if (credentials?.kind === 'refresh-token') {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        client_id: 'thaw',
        refresh_token: credentials.token,
        scope: scopesOf(scope).join(' '),
      });
      if (service !== undefined) form.set('service', service);
      return {
        method: 'POST',
        url,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: Buffer.from(form.toString()),
      };
    }
    if (service !== undefined) url.searchParams.set('service', service);
    for (const text of scopesOf(scope)) url.searchParams.append('scope', text);
    const authorization = credentials && basicHeader(credentials);
    return { method: 'GET', url, headers: authorization === undefined ? {} : { authorization } };
  }

  /** Credentials go to the realm, so it must be reached as safely as the registry itself. */
  #realmUrl(subject: Subject, realm: string): URL {
    let url: URL;
    try {
      url = new URL(realm);
    } catch {
      throw transportFailure(subject, 'the registry names a token service that is no valid address');
    }
    const safe =
      url.protocol === 'https:' || (url.protocol === 'http:' && (this.#plainHttp || isLoopback(url.host)));
    if (!safe)
      throw transportFailure(subject, `the registry names a token service without HTTPS on ${url.host}`);
    return url;
  }
}

function basicHeader(credentials: Credentials): string | undefined {
  if (credentials.kind !== 'password') return undefined;
  const { username, password } = credentials;
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function parseAnswer(body: Buffer): z.infer<typeof answerSchema> | undefined {
  try {
    return answerSchema.safeParse(JSON.parse(body.toString('utf8'))).data;
  } catch {
    return undefined;
  }
}

function scopesOf(scope: Scope): string[] {
  const scopes = [`repository:${scope.repository}:${scope.actions}`];
  if (scope.alsoPull !== undefined) scopes.push(`repository:${scope.alsoPull}:pull`);
  return scopes;
}

function keyOf(scope: Scope): string {
  return scopesOf(scope).join(' ');
}
