/** Heads of HTTP/1.1 messages. Source: RFC 9112. Pure. */
import { type IncomingHttpHeaders, validateHeaderName, validateHeaderValue } from 'node:http';

export interface ResponseHead {
  status: number;
  /** Names in lower case. */
  headers: IncomingHttpHeaders;
  body: BodyFraming;
  keepAlive: boolean;
  /** Bytes that the head takes. */
  end: number;
}

/** How the end of a body is known. RFC 9112 §6.3. */
export type BodyFraming = { kind: 'length'; length: number } | { kind: 'chunked' } | { kind: 'connection' };

export class BadHead extends Error {}

const END = '\r\n\r\n';
export const MAX_HEAD_BYTES = 32 * 1024;

/** Undefined if its end has not come. Throws BadHead for what is no such head. */
export function parseResponseHead(bytes: Buffer): ResponseHead | undefined {
  const at = bytes.indexOf(END, 0, 'latin1');
  if (at < 0) {
    if (bytes.length > MAX_HEAD_BYTES) throw new BadHead('the answer has no end of its head');
    return undefined;
  }
  const [first = '', ...lines] = bytes.toString('latin1', 0, at).split('\r\n');
  const [, minor, status] = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(first) ?? [];
  if (status === undefined) throw new BadHead('the answer does not begin as one of HTTP/1.1');
  const headers: IncomingHttpHeaders = {};
  for (const line of lines) add(headers, line);
  const connection = headers.connection?.toLowerCase() ?? '';
  return {
    status: Number(status),
    headers,
    body: framingOf(headers),
    keepAlive: minor === '1' ? !connection.includes('close') : connection.includes('keep-alive'),
    end: at + END.length,
  };
}

function add(headers: IncomingHttpHeaders, line: string): void {
  const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
  // Lines that go on in the next one have been forbidden since 2014.
  if (name === undefined || value === undefined) throw new BadHead('the answer has a malformed header');
  const key = name.toLowerCase();
  if (key === 'set-cookie') return;
  const known = headers[key];
  if (known === undefined) headers[key] = value;
  else if (key !== 'content-length') headers[key] = `${known}, ${value}`;
  else if (known !== value) throw new BadHead('the answer has two lengths');
}

function framingOf(headers: IncomingHttpHeaders): BodyFraming {
  const { 'content-length': stated, 'transfer-encoding': coding } = headers;
  if (coding !== undefined) {
    if (coding.toLowerCase() !== 'chunked')
      throw new BadHead('the answer has a transfer coding that is not known');
    return { kind: 'chunked' };
  }
  if (stated === undefined) return { kind: 'connection' };
  const length = /^\d{1,16}$/.test(stated) ? Number(stated) : Number.NaN;
  if (!Number.isSafeInteger(length)) throw new BadHead('the answer has no valid length');
  return { kind: 'length', length };
}

/** Of a GET. Throws a TypeError for a header that would end its line early. */
export function requestHead(url: URL, headers: Readonly<Record<string, string>>): string {
  const lines = [`GET ${url.pathname}${url.search} HTTP/1.1`, `host: ${url.host}`];
  for (const [name, value] of Object.entries(headers)) {
    validateHeaderName(name);
    validateHeaderValue(name, value);
    lines.push(`${name}: ${value}`);
  }
  return `${lines.join('\r\n')}${END}`;
}
