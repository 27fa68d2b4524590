/** Certificates for loopback servers, made by openssl. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Pair {
  /** Paths of PEM files. */
  cert: string;
  key: string;
}

/** An authority of a test's own. */
export class Authority {
  readonly cert: string;
  readonly #dir: string;
  readonly #name: string;

  constructor(dir: string, name: string) {
    this.#dir = dir;
    this.#name = name;
    this.cert = this.#request(name, ['-addext', 'basicConstraints=critical,CA:TRUE']).cert;
  }

  /** A certificate for 127.0.0.1, of a server or a client. */
  issue(name: string): Pair {
    return this.#request(name, [
      ...['-CA', this.cert, '-CAkey', join(this.#dir, `${this.#name}.key`)],
      ...['-addext', 'basicConstraints=CA:FALSE', '-addext', 'subjectAltName=IP:127.0.0.1'],
    ]);
  }

  #request(name: string, more: readonly string[]): Pair {
    const pair = { cert: join(this.#dir, `${name}.pem`), key: join(this.#dir, `${name}.key`) };
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-nodes', '-days', '2', '-subj', `/CN=${name}`],
        ...['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
        ...['-keyout', pair.key, '-out', pair.cert, ...more],
      ],
      { stdio: 'pipe', timeout: 20_000 },
    );
    return pair;
  }
}

/** As options of a TLS server. */
export function loaded({ cert, key }: Pair): { cert: Buffer; key: Buffer } {
  return { cert: readFileSync(cert), key: readFileSync(key) };
}
