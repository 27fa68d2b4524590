import type { CallOptions, Connection, Method, Scope } from './channel.ts';

/** A connection with the namespace and lease that calls are made in. */
export interface Caller {
  connection: Connection;
  scope: Scope;
  signal: AbortSignal | undefined;
}

/** Methods of one service: `call<Response>(caller, 'Get', request, {action})`. */
export function serviceMethods(file: string, name: string) {
  const method = (rpc: string): Method => ({ file, service: name, name: rpc });
  return {
    method,
    call<Response>(caller: Caller, rpc: string, request: object, options: CallOptions): Promise<Response> {
      const signal = 'signal' in options ? options.signal : caller.signal;
      return caller.connection.unary<Response>(caller.scope, method(rpc), request, { ...options, signal });
    },
    stream<Response>(caller: Caller, rpc: string, request: object, options: CallOptions) {
      const signal = 'signal' in options ? options.signal : caller.signal;
      return caller.connection.serverStream<Response>(caller.scope, method(rpc), request, {
        ...options,
        signal,
      });
    },
  };
}
