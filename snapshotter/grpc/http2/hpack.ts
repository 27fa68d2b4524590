/** Headers as HTTP/2 packs them. Source: RFC 7541. */
import { ErrorCode, Http2Error } from './frames.ts';
import { decodeHuffman } from './huffman.ts';

export type Field = readonly [name: string, value: string];

/** Appendix A. */
const STATIC: readonly Field[] = (
  ':authority;:method GET;:method POST;:path /;:path /index.html;:scheme http;:scheme https;:status 200;:status 204;' +
  ':status 206;:status 304;:status 400;:status 404;:status 500;accept-charset;accept-encoding gzip, deflate;' +
  'accept-language;accept-ranges;accept;access-control-allow-origin;age;allow;authorization;cache-control;' +
  'content-disposition;content-encoding;content-language;content-length;content-location;content-range;content-type;' +
  'cookie;date;etag;expect;expires;from;host;if-match;if-modified-since;if-none-match;if-range;if-unmodified-since;' +
  'last-modified;link;location;max-forwards;proxy-authenticate;proxy-authorization;range;referer;refresh;retry-after;' +
  'server;set-cookie;strict-transport-security;transfer-encoding;user-agent;vary;via;www-authenticate'
)
  .split(';')
  .map((line) => {
    const [name = '', ...value] = line.split(' ');
    return [name, value.join(' ')];
  });
const STATUS_200 = 8;
/** Of the table of what the client sent before: the default, which we do not change. */
const TABLE_BYTES = 4096;
/** What an entry counts beside its texts. */
const ENTRY_BYTES = 32;

/** Of one connection: what is sent may refer to what was sent before. */
export class HeaderDecoder {
  /** Oldest first. */
  readonly #table: Field[] = [];
  #size = 0;
  #limit = TABLE_BYTES;
  #block: Buffer = Buffer.alloc(0);
  #at = 0;

  /** Throws an Http2Error if it is not valid: then no later block can be read either. */
  decode(block: Buffer): Field[] {
    this.#block = block;
    this.#at = 0;
    const fields: Field[] = [];
    while (this.#at < block.length) {
      const first = block[this.#at] ?? 0;
      if (first & 0x80) fields.push(this.#entry(this.#integer(7)));
      else if (first & 0x40) fields.push(this.#remember(this.#literal(6)));
      else if (first & 0x20) this.#resize(this.#integer(5));
      else fields.push(this.#literal(4));
    }
    return fields;
  }

  #entry(index: number): Field {
    const field =
      index <= STATIC.length ? STATIC[index - 1] : this.#table[this.#table.length - index + STATIC.length];
    if (!field) throw invalid(`there is no entry ${index}`);
    return field;
  }

  #literal(prefix: number): Field {
    const index = this.#integer(prefix);
    const name = index === 0 ? this.#text() : this.#entry(index)[0];
    return [name, this.#text()];
  }

  #remember(field: Field): Field {
    this.#table.push(field);
    this.#size += sizeOf(field);
    this.#evict();
    return field;
  }

  #resize(limit: number): void {
    if (limit > TABLE_BYTES) throw invalid(`a table of ${limit} bytes`);
    this.#limit = limit;
    this.#evict();
  }

  #evict(): void {
    while (this.#size > this.#limit) {
      const oldest = this.#table.shift();
      if (oldest) this.#size -= sizeOf(oldest);
    }
  }

  #text(): string {
    const coded = ((this.#block[this.#at] ?? 0) & 0x80) !== 0;
    const length = this.#integer(7);
    const end = this.#at + length;
    if (end > this.#block.length) throw invalid('a text is cut off');
    const bytes = this.#block.subarray(this.#at, end);
    this.#at = end;
    return coded ? decodeHuffman(bytes) : bytes.toString('latin1');
  }

  /** Whose first byte has so many bits of it. */
  #integer(prefix: number): number {
    const most = 2 ** prefix - 1;
    let value = this.#byte() & most;
    if (value < most) return value;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#byte();
      value += (byte & 0x7f) * scale;
      if (value > 0xffff_ffff) throw invalid('a number is too large');
      if (byte < 0x80) return value;
    }
  }

  #byte(): number {
    const byte = this.#block[this.#at++];
    if (byte === undefined) throw invalid('it is cut off');
    return byte;
  }
}

/** Each for itself: nothing is left to the client's table, so a block is the same bytes for every client. */
export function encodeHeaders(fields: readonly Field[]): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) {
    if (name === ':status' && value === '200') parts.push(Buffer.from([0x80 | STATUS_200]));
    else parts.push(Buffer.from([0]), text(name), text(value));
  }
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  const length = [Math.min(bytes.length, 0x7f)];
  if (bytes.length >= 0x7f) {
    let rest = bytes.length - 0x7f;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) length.push((rest % 128) | 0x80);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

function sizeOf([name, value]: Field): number {
  return name.length + value.length + ENTRY_BYTES;
}

function invalid(what: string): Http2Error {
  return new Http2Error(ErrorCode.compression, `its headers cannot be read: ${what}`);
}
