/** IP addresses of a network namespace, from its files below /proc/net. Pure. */

const IPV4_LOCAL = /^\s*\/32 host LOCAL$/;
const IPV6_LINE = /^([0-9a-f]{32}) [0-9a-f]+ [0-9a-f]+ ([0-9a-f]{2}) /;
/** IPV6_ADDR_* scope as if_inet6 prints it: 00 is global (also unique-local), 10 this host, 20 this link. */
const GLOBAL_SCOPE = '00';

/** From /proc/net/fib_trie (net/ipv4/fib_trie.c): in its order, without loopback. */
export function ipv4Addresses(fibTrie: string): string[] {
  const found = new Set<string>();
  let leaf = '';
  for (const line of fibTrie.split('\n')) {
    const at = line.indexOf('|-- ');
    if (at >= 0) leaf = line.slice(at + 4).trim();
    else if (IPV4_LOCAL.test(line) && !leaf.startsWith('127.')) found.add(leaf);
  }
  return [...found];
}

/** From /proc/net/if_inet6 (net/ipv6/addrconf.c): what others can reach. */
export function ipv6Addresses(ifInet6: string): string[] {
  return ifInet6.split('\n').flatMap((line) => {
    const [, digits, scope] = IPV6_LINE.exec(line) ?? [];
    return digits !== undefined && scope === GLOBAL_SCOPE ? [shortIpv6(digits)] : [];
  });
}

/** As RFC 5952 has it: no leading zeros, the first of the longest runs of zero groups left out. */
function shortIpv6(digits: string): string {
  const groups = (digits.match(/.{4}/g) ?? []).map((group) => group.replace(/^0{1,3}/, ''));
  const runs = groups.map((_, start) => {
    let end = start;
    while (groups[end] === '0') end += 1;
    return { start, length: end - start };
  });
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), {
    start: 0,
    length: 1,
  });
  if (longest.length < 2) return groups.join(':');
  const head = groups.slice(0, longest.start).join(':');
  return `${head}::${groups.slice(longest.start + longest.length).join(':')}`;
}
