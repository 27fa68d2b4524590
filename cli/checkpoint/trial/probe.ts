/** `--probe`: how a trial shows that it works. */
import { usageError } from '../../error.ts';

export type Probe =
  | { kind: 'http'; port: number; path: string }
  | { kind: 'tcp'; port: number }
  | { kind: 'exec'; args: string[] };

const FORMS = 'http://localhost:PORT/PATH, tcp://localhost:PORT or exec:COMMAND';
const LOOPBACK = new Set(['localhost', '127.0.0.1']);

/** Throws for what is no probe. */
export function parseProbe(text: string): Probe {
  if (text.startsWith('exec:')) {
    const args = text.slice('exec:'.length).split(/\s+/).filter(Boolean);
    if (args.length > 0) return { kind: 'exec', args };
    throw unknown(text);
  }
  // The URL class knows no port of tcp: without one it is empty.
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'tcp:') throw unknown(text);
  // There is nothing but loopback in the network of a trial.
  if (!LOOPBACK.has(url.hostname)) throw unknown(text);
  const port = Number(url.port || (url.protocol === 'http:' ? 80 : 0));
  if (port < 1) throw unknown(text);
  if (url.protocol === 'tcp:') return { kind: 'tcp', port };
  return { kind: 'http', port, path: `${url.pathname}${url.search}` };
}

function unknown(text: string): Error {
  return usageError(`Cannot understand the probe "${text}": use ${FORMS}`);
}
