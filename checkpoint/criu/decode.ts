import { broken } from './framing.ts';

interface Decoder<T> {
  decode(bytes: Uint8Array): T;
}

/** One message. Throws dataLoss that names the image. */
export function decodeMessage<T>(type: Decoder<T>, bytes: Uint8Array, name: string): T {
  try {
    return type.decode(bytes);
  } catch (cause) {
    throw broken(name, 'an entry cannot be decoded', cause);
  }
}

/** The one message of an image that has exactly one. */
export function decodeOnly<T>(type: Decoder<T>, messages: readonly Uint8Array[], name: string): T {
  const [message, ...rest] = messages;
  if (!message || rest.length > 0) throw broken(name, 'it holds not exactly one entry');
  return decodeMessage(type, message, name);
}

/** A field that may be absent: the generated classes answer with the default then, which is another thing than none. */
export function optional<T extends object, K extends keyof T>(
  message: T,
  field: K,
): NonNullable<T[K]> | undefined {
  return Object.hasOwn(message, field) ? (message[field] ?? undefined) : undefined;
}
