import { stat } from 'node:fs/promises';
import {
  Client,
  type ClientDuplexStream,
  credentials,
  type CallOptions as GrpcCallOptions,
  Metadata,
} from '@grpc/grpc-js';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import { containerdError } from './errors.ts';
import { service } from './protos.ts';

/** containerd syncs its database to disk in most calls; a busy disk makes that seconds. */
export const DEFAULT_DEADLINE_MS = 30_000;
/** containerd's own limit for a message, in both directions. */
const MAX_MESSAGE_BYTES = 16 << 20;

export interface Method {
  /** Below proto/containerd/services. */
  file: string;
  service: string;
  name: string;
}

export interface CallOptions {
  /** Completes "Cannot …" in an error's message. */
  action: string;
  /** For the whole call; for a stream, between two messages. */
  deadlineMs?: number;
  signal?: AbortSignal | undefined;
}

export interface Scope {
  namespace: string;
  /** What the call makes or names is kept from garbage collection for as long as this lease exists. */
  lease?: string | undefined;
}

/** One HTTP/2 connection to containerd. Scopes share it. */
export class Connection {
  readonly address: string;
  readonly #client: Client;

  constructor(address: string) {
    this.address = address;
    this.#client = new Client(`unix:${address}`, credentials.createInsecure(), {
      // grpc-js would send the socket's path as :authority, which Go's HTTP/2 server refuses.
      'grpc.default_authority': 'localhost',
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    });
  }

  close(): void {
    this.#client.close();
  }

  /** Fails with what to do when there is no socket: grpc-js only says "No connection established". */
  async check(): Promise<void> {
    const found = await stat(this.address).catch((error: unknown) => {
      throw new CliError(
        Code.unavailable,
        `Cannot reach containerd at ${this.address}: start containerd, or name its socket with --address`,
        { cause: error },
      );
    });
    if (!found.isSocket())
      throw new CliError(
        Code.invalidArgument,
        `Cannot reach containerd: ${this.address} is not a socket; name containerd's socket with --address`,
      );
  }

  unary<Response>(scope: Scope, method: Method, request: object, options: CallOptions): Promise<Response> {
    const definition = define(method);
    return new Promise<Response>((resolve, reject) => {
      if (options.signal?.aborted) return reject(interrupted(options.action));
      const call = this.#client.makeUnaryRequest<object, object>(
        definition.path,
        definition.requestSerialize,
        definition.responseDeserialize,
        request,
        metadata(scope),
        deadline(options.deadlineMs ?? DEFAULT_DEADLINE_MS),
        (error, value) => {
          options.signal?.removeEventListener('abort', cancel);
          if (error !== null) reject(containerdError(error, options.action, this.address));
          else if (value === undefined)
            reject(new CliError(Code.internal, `Cannot ${options.action}: no answer`));
          else resolve(value as Response);
        },
      );
      const cancel = () => call.cancel();
      options.signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  async *serverStream<Response>(
    scope: Scope,
    method: Method,
    request: object,
    options: CallOptions,
  ): AsyncGenerator<Response, void, undefined> {
    if (options.signal?.aborted) throw interrupted(options.action);
    const definition = define(method);
    const call = this.#client.makeServerStreamRequest<object, object>(
      definition.path,
      definition.requestSerialize,
      definition.responseDeserialize,
      request,
      metadata(scope),
    );
    const watch = new Watchdog(options, () => call.cancel());
    try {
      for await (const message of call) {
        watch.pause();
        yield message as Response;
        watch.rearm();
      }
    } catch (error) {
      throw watch.expired ?? containerdError(error, options.action, this.address);
    } finally {
      watch.stop();
      call.cancel();
    }
  }

  /** A stream in both directions; the caller ends or cancels it, and calls `watch.stop()`. */
  duplex(
    scope: Scope,
    method: Method,
    options: CallOptions,
  ): { call: ClientDuplexStream<object, object>; watch: Watchdog } {
    if (options.signal?.aborted) throw interrupted(options.action);
    const definition = define(method);
    const call = this.#client.makeBidiStreamRequest<object, object>(
      definition.path,
      definition.requestSerialize,
      definition.responseDeserialize,
      metadata(scope),
    );
    return { call, watch: new Watchdog(options, () => call.cancel()) };
  }
}

/** Cancels a stream when nothing came for too long, or when the signal asks. */
export class Watchdog {
  expired: CliError | undefined;
  readonly #options: CallOptions;
  readonly #cancel: () => void;
  readonly #abort: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: CallOptions, cancel: () => void) {
    this.#options = options;
    this.#cancel = cancel;
    this.#abort = () => this.#end(interrupted(options.action));
    options.signal?.addEventListener('abort', this.#abort, { once: true });
    this.rearm();
  }

  rearm(): void {
    clearTimeout(this.#timer);
    const ms = this.#options.deadlineMs ?? DEFAULT_DEADLINE_MS;
    this.#timer = setTimeout(() => {
      const message = `Cannot ${this.#options.action}: containerd sent nothing for ${ms / 1000} s; look at its log`;
      this.#end(new CliError(Code.deadlineExceeded, message));
    }, ms);
  }

  pause(): void {
    clearTimeout(this.#timer);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener('abort', this.#abort);
  }

  #end(error: CliError): void {
    this.expired ??= error;
    this.stop();
    this.#cancel();
  }
}

function define(method: Method) {
  const found = service(method.file, method.service)[method.name];
  if (found === undefined)
    throw new CliError(Code.internal, `Cannot find the method ${method.service}/${method.name}`);
  return found;
}

/** Source: pkg/namespaces/grpc.go and core/leases/grpc.go of containerd. */
function metadata(scope: Scope): Metadata {
  const headers = new Metadata();
  headers.set('containerd-namespace', scope.namespace);
  if (scope.lease !== undefined) headers.set('containerd-lease', scope.lease);
  return headers;
}

function deadline(ms: number): GrpcCallOptions {
  return { deadline: Date.now() + ms };
}

function interrupted(action: string): CliError {
  return new CliError(Code.canceled, `Interrupted while trying to ${action}`);
}
