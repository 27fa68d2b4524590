/** Addresses of the pod, and which of them a socket gets that was bound to one of the pod it was saved in. Pure. */
import { Code } from '../../proto/status.ts';
import { RestoreError } from './error.ts';

/** Each of 4 or 16 bytes, in network order. */
export type Address = Uint8Array;

/** Local addresses of a network namespace, from its /proc/net/fib_trie. Source: the kernel's fib_trie_seq_show. */
export function addressesV4(fibTrie: string): Address[] {
  const found = new Set<string>();
  let leaf = '';
  for (const line of fibTrie.split('\n')) {
    leaf = /\|-- ([\d.]+)$/.exec(line.trim())?.[1] ?? leaf;
    if (/\/32 host LOCAL$/.test(line.trim())) found.add(leaf);
  }
  return [...found].map((text) => Uint8Array.from(text.split('.').map(Number)));
}

/** From /proc/net/if_inet6: the address in hexadecimal comes first. */
export function addressesV6(ifInet6: string): Address[] {
  return ifInet6.split('\n').flatMap((line) => {
    const hex = /^([0-9a-f]{32}) /.exec(line)?.[1];
    return hex === undefined ? [] : [Buffer.from(hex, 'hex')];
  });
}

type Scope = 'any' | 'loopback' | 'multicast' | 'link' | 'pod';

function scopeOf(address: Address): Scope {
  const mapped = mappedV4(address);
  const a = mapped ?? address;
  if (a.every((byte) => byte === 0)) return 'any';
  const [first = 0, second = 0] = a;
  if (a.length === 4) {
    if (first === 127) return 'loopback';
    if (first >= 224) return 'multicast';
    return first === 169 && second === 254 ? 'link' : 'pod';
  }
  if (a.subarray(0, 15).every((byte) => byte === 0) && a[15] === 1) return 'loopback';
  if (first === 0xff) return 'multicast';
  return first === 0xfe && (second & 0xc0) === 0x80 ? 'link' : 'pod';
}

const MAPPED = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);

/** The IPv4 address in ::ffff:a.b.c.d. */
function mappedV4(address: Address): Address | undefined {
  if (address.length !== 16 || Buffer.compare(address.subarray(0, 12), MAPPED) !== 0) return undefined;
  return address.subarray(12);
}

/** All addresses, loopback, multicast. */
export function isSameInEveryPod(address: Address): boolean {
  const scope = scopeOf(address);
  return scope === 'any' || scope === 'loopback' || scope === 'multicast';
}

/**
 * The address to bind to instead of a saved one: itself if it means the same in every pod, or is there; else the pod's own
 * of that kind. Throws where the pod has none.
 */
export function addressHere(saved: Address, here: readonly Address[]): Address {
  const v4 = mappedV4(saved);
  if (v4) return Buffer.concat([MAPPED, addressHere(v4, here)]);
  if (isSameInEveryPod(saved)) return saved;
  const scope = scopeOf(saved);
  const family = here.filter((address) => address.length === saved.length);
  if (family.some((address) => Buffer.compare(address, saved) === 0)) return saved;
  const own = family.find((address) => scopeOf(address) === scope);
  // A network of loopback alone is a trial's: what listens is to be found there.
  const loopback = family.every((address) => scopeOf(address) === 'loopback') ? family[0] : undefined;
  const found = own ?? loopback;
  if (!found)
    throw new RestoreError(
      Code.unavailable,
      `a socket was bound to the old pod's address ${formatAddress(saved)}, and this pod has no ${saved.length === 4 ? 'IPv4' : 'IPv6'} address`,
    );
  return found;
}

export function formatAddress(address: Address): string {
  if (address.length === 4) return address.join('.');
  return Array.from({ length: 8 }, (_, i) =>
    (((address[2 * i] ?? 0) << 8) | (address[2 * i + 1] ?? 0)).toString(16),
  ).join(':');
}
