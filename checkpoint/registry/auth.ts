/** Authorization for one registry: Basic, and the bearer tokens of the distribution-spec's token flow. */
import { z } from 'zod';
import type { Challenge } from './challenge.ts';
import type { Credentials } from './credentials.ts';
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
}

export class Authorizer {
  readonly #transport: Transport;
  readonly #credentials: Credentials | undefined;
  readonly #plainHttp: boolean;
  readonly #tokens = new Map<string, Token>();
  readonly #pending = new Map<string, Promise<string | undefined>>();
  #basic = false;

  constructor(transport: Transport, credentials: Credentials | undefined, plainHttp: boolean) {
    this.#transport = transport;
    this.#credentials = credentials;
    this.#plainHttp = plainHttp;
  }

  /** The Authorization header to try first; undefined if none is known to be needed. */
  current(scope: Scope): string | undefined {
    if (this.#basic) return this.#basicHeader();
    const token = this.#tokens.get(keyOf(scope));
    return token && token.usableUntil > performance.now() ? token.header : undefined;
  }

  /**
   * The header to use after a 401 that came with `challenges` for a request that carried `rejected`. Undefined if
   * there is nothing better to offer: the 401 is final then.
   */
  async answer(
    subject: Subject,
    challenges: readonly Challenge[],
    scope: Scope,
    rejected: string | undefined,
  ): Promise<string | undefined> {
    const known = this.current(scope);
    if (known !== undefined && known !== rejected) return known;
    const bearer = challenges.find((c) => c.scheme === 'bearer' && c.parameters['realm']);
    if (bearer) return this.#shared(subject, bearer, scope);
    const basic = challenges.some((c) => c.scheme === 'basic') ? this.#basicHeader() : undefined;
    if (basic === undefined || basic === rejected) return undefined;
    this.#basic = true;
    return basic;
  }

  /** Many ranges that meet one expired token ask for one new token. */
  #shared(subject: Subject, challenge: Challenge, scope: Scope): Promise<string | undefined> {
    const key = keyOf(scope);
    const running = this.#pending.get(key);
    if (running) return running;
    const started = this.#fetchToken(subject, challenge, scope).finally(() => this.#pending.delete(key));
    this.#pending.set(key, started);
    return started;
  }

  async #fetchToken(subject: Subject, challenge: Challenge, scope: Scope): Promise<string | undefined> {
    const asking: Subject = { ...subject, action: `${subject.action}, as no token could be had` };
    // Its own deadline: the callers who share it have different ones.
    const signal = AbortSignal.timeout(TOKEN_DEADLINE_MS);
    const response = await this.#transport.send(asking, {
      ...this.#tokenRequest(asking, challenge, scope),
      signal,
    });
    const body = await this.#transport.readSmall(asking, response, MAX_ANSWER_BYTES, signal);
    if (response.status !== 200)
      throw statusFailure(asking, response.status, response.headers, body.toString('utf8'));
    const answer = parseAnswer(body);
    const value = answer?.token ?? answer?.access_token;
    // Whatever goes into a header must not be able to end it.
    if (value === undefined || !/^[\x21-\x7e]+$/.test(value))
      throw contentFailure(asking, 'the token service sent no token');
    const lifetimeS = Math.max(answer?.expires_in ?? DEFAULT_LIFETIME_S, 1);
    const header = `Bearer ${value}`;
    this.#tokens.set(keyOf(scope), { header, usableUntil: performance.now() + lifetimeS * 900 });
    return header;
  }

  #tokenRequest(subject: Subject, challenge: Challenge, scope: Scope): HttpRequest {
    const { realm = '', service } = challenge.parameters;
    const url = this.#realmUrl(subject, realm);
    const credentials = this.#credentials;
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
    const authorization = this.#basicHeader();
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

  #basicHeader(): string | undefined {
    if (this.#credentials?.kind !== 'password') return undefined;
    const { username, password } = this.#credentials;
    return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  }
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
