/** The ttrpc wire protocol, client and server (see README.md). */
export { type CallOptions, TtrpcClient } from './client.ts';
export { type Decoder, type Encoder, method } from './codec.ts';
export type { Metadata } from './message.ts';
export {
  type CallContext,
  type Handler,
  type Services,
  TtrpcServer,
  type TtrpcServerOptions,
} from './server.ts';
export { TtrpcError } from './status.ts';
