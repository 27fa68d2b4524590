/** Typed methods over bytes; generated protobufjs classes are codecs as they are. */
import { Code } from '../status.ts';
import type { CallContext, Handler } from './server.ts';
import { TtrpcError } from './status.ts';

export interface Encoder<In> {
  encode(message: In): { finish(): Uint8Array };
}
export interface Decoder<Out> {
  decode(bytes: Uint8Array): Out;
}

/** A handler that decodes the request and encodes the response. Malformed payloads are InvalidArgument. */
export function method<Request, Response>(
  request: Decoder<Request>,
  response: Encoder<Response>,
  handle: (request: Request, call: CallContext) => Promise<Response> | Response,
): Handler {
  return async (payload, call) => {
    let decoded: Request;
    try {
      decoded = request.decode(payload);
    } catch (cause) {
      throw new TtrpcError(Code.invalidArgument, 'Cannot decode the request', { cause });
    }
    return response.encode(await handle(decoded, call)).finish();
  };
}
