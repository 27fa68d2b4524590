/**
 * CRI's image service between a kubelet and containerd (`--image-service-endpoint`): every call goes on as it came, and the
 * credentials of a pull are kept for the daemon's own fetches of that image. Made by daemon.ts where the configuration has
 * an address for it; loaded only then. Source: k8s.io/cri-api, runtime.v1.ImageService.
 */
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { type Credentials, parseReference, type Reference } from '../../checkpoint/registry/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import {
  type Call,
  ForwardedError,
  GrpcServer,
  loadDefinition,
  type Methods,
  timeoutMs,
} from '../grpc/index.ts';
import { type AuthConfig, credentialsOf } from './auth-config.ts';

export { KeptCredentials } from './kept-credentials.ts';

const PROTO = 'cri/runtime/v1/api.proto';
const SERVICE = 'runtime.v1.ImageService';
/** A containerd that restarts is found again as soon as containerd finds a snapshotter. */
const RECONNECT_MS = 3_000;
const MAX_MESSAGE = 16 << 20;

interface PullImageRequest {
  image: { image: string } | null;
  auth: AuthConfig | null;
}

export interface ImageServiceOptions {
  /** containerd's socket. */
  address: string;
  keep: (repository: Pick<Reference, 'registry' | 'repository'>, credentials: Credentials) => void;
  log: Logger;
}

export class ImageService extends GrpcServer {
  readonly #client: Client;

  constructor(options: ImageServiceOptions) {
    const client = new Client(`unix:${options.address}`, credentials.createInsecure(), {
      'grpc.max_reconnect_backoff_ms': RECONNECT_MS,
      'grpc.max_receive_message_length': MAX_MESSAGE,
      'grpc.max_send_message_length': MAX_MESSAGE,
    });
    super(methods(client, options), (error) =>
      options.log.warn({ error: error.message }, 'connection failed'),
    );
    this.#client = client;
  }

  override async close(graceMs: number): Promise<void> {
    await super.close(graceMs);
    this.#client.close();
  }
}

function methods(client: Client, { keep, log }: ImageServiceOptions): Methods {
  const definition = loadDefinition(PROTO, SERVICE);
  return new Map(
    Object.entries(definition).map(([name, { path, requestDeserialize }]) => [
      path,
      (request: Buffer, call: Call) => {
        if (name === 'PullImage') {
          // Before containerd asks for the first layer. What is wrong here is not the pull's failure.
          try {
            keepOf(requestDeserialize(request) as PullImageRequest, keep);
          } catch (error) {
            log.warn({ error: describeError(error).message }, 'credentials not kept');
          }
        }
        return forward(client, path, request, call);
      },
    ]),
  );
}

function keepOf({ image, auth }: PullImageRequest, keep: ImageServiceOptions['keep']): void {
  if (!image || !auth) return;
  const { registry, repository } = parseReference(image.image);
  const found = credentialsOf(auth, registry);
  if (found) keep({ registry, repository }, found);
}

/** For as long as the caller waits: a pull has no limit of its own. */
function forward(client: Client, path: string, request: Buffer, call: Call): Promise<Buffer> {
  const asIs = (bytes: Buffer) => bytes;
  const limit = timeoutMs(call.headers['grpc-timeout']);
  return new Promise((resolve, reject) => {
    const forwarded = client.makeUnaryRequest(
      path,
      asIs,
      asIs,
      request,
      Metadata.fromHttp2Headers(call.headers),
      limit === undefined ? {} : { deadline: Date.now() + limit },
      (error, answer) => {
        if (error) reject(asForwarded(error));
        else resolve(answer ?? Buffer.alloc(0));
      },
    );
    call.signal.addEventListener('abort', () => forwarded.cancel(), { once: true });
  });
}

function asForwarded(error: ServiceError): ForwardedError {
  const code = Object.values(Code).find((known) => known === error.code) ?? Code.unknown;
  const trailers = Object.entries(error.metadata.toHttp2Headers()).flatMap(([name, value]) =>
    value === undefined || (name.startsWith('grpc-') && name !== 'grpc-status-details-bin')
      ? []
      : [[name, String(value)] as const],
  );
  return new ForwardedError(code, error.details, Object.fromEntries(trailers));
}
