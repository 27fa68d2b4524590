import { join } from 'node:path';
import { Client, credentials, type ServiceDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { Code } from '../../../proto/status.ts';
import { CriError } from './error.ts';

const protoFile = join(import.meta.dirname, '../../../proto/cri/runtime/v1/api.proto');

/** One connection to a CRI endpoint: unary calls by service and method name, each with a deadline. */
export class CriTransport {
  readonly #client: Client;
  readonly #services: Record<'RuntimeService' | 'ImageService', ServiceDefinition>;

  /** @param socket absolute path of the unix socket. Connects on the first call. */
  constructor(socket: string) {
    const definition = loadSync(protoFile, { longs: String, enums: String, defaults: true });
    this.#services = {
      RuntimeService: serviceOf(definition['runtime.v1.RuntimeService']),
      ImageService: serviceOf(definition['runtime.v1.ImageService']),
    };
    this.#client = new Client(`unix://${socket}`, credentials.createInsecure(), {
      // ExecSync answers up to 16 MiB of each stream.
      'grpc.max_receive_message_length': 40 * 1024 * 1024,
    });
  }

  /**
   * One call. `Response` must describe what the proto says of that method: protobuf decoding has then checked it.
   * @throws CriError with the gRPC status code; `deadlineExceeded` after `timeoutMs`.
   */
  call<Response>(
    service: 'RuntimeService' | 'ImageService',
    method: string,
    request: object,
    timeoutMs: number,
  ): Promise<Response> {
    const rpc = this.#services[service][method];
    if (rpc === undefined) throw new CriError(Code.unimplemented, `The CRI subset has no method ${method}`);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest<object, Response>(
        rpc.path,
        rpc.requestSerialize,
        rpc.responseDeserialize,
        request,
        { deadline: Date.now() + timeoutMs },
        (error: ServiceError | null, response?: Response) => {
          if (error !== null) reject(asCriError(method, error));
          else if (response === undefined) reject(new CriError(Code.internal, `${method} gave no answer`));
          else resolve(response);
        },
      );
    });
  }

  close(): void {
    this.#client.close();
  }
}

function serviceOf(definition: unknown): ServiceDefinition {
  if (typeof definition !== 'object' || definition === null)
    throw new CriError(Code.internal, `${protoFile} lacks a CRI service`);
  return definition as ServiceDefinition;
}

function asCriError(method: string, error: ServiceError): CriError {
  const code = Object.values(Code).find((value) => value === Number(error.code)) ?? Code.unknown;
  return new CriError(code, `${method}: ${error.details}`, { cause: error, context: { method } });
}
