/** Values as the kernel writes them into control files. Pure. */

/**
 * A uint64 for the generated encoder: a number where that is exact, else both halves, typed as a number because the
 * generated types name a class that is not loaded here.
 */
export type WireUint64 = number;

const MAX_UINT64 = 2n ** 64n - 1n;

export const maxUint64: WireUint64 = halves(MAX_UINT64);

/** Null for what is no unsigned decimal, as of a file that this kernel does not have. */
export function uint64(text: string | undefined): WireUint64 | null {
  if (text === undefined || !/^\s*\d+\s*$/.test(text)) return null;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : halves(BigInt.asUintN(64, BigInt(text)));
}

/** A limit of v2: "max" is the largest number there is. */
export function limit(text: string | undefined): WireUint64 | null {
  return text?.trim() === 'max' ? maxUint64 : uint64(text);
}

/** Lines of "name value". */
export function keyed(text: string | undefined): ReadonlyMap<string, string> {
  return new Map(
    lines(text).flatMap((line): [string, string][] => {
      const at = line.indexOf(' ');
      return at < 0 ? [] : [[line.slice(0, at), line.slice(at + 1)]];
    }),
  );
}

/** The fields of a message, each from the name it has in a keyed file. */
export function fields<Name extends string>(
  names: Readonly<Record<Name, string>>,
  values: ReadonlyMap<string, string>,
): Record<Name, WireUint64 | null> {
  const filled = Object.entries<string>(names).map(([field, name]) => [field, uint64(values.get(name))]);
  return Object.fromEntries(filled) as Record<Name, WireUint64 | null>;
}

export function lines(text: string | undefined): string[] {
  return (text ?? '').split('\n').filter(Boolean);
}

/** Lines of "device hca_handle=2 hca_object=max"; the type of the counters ends at 32 bits. */
export function rdmaEntries(text: string | undefined) {
  const count = (value: string | undefined) =>
    value === undefined ? null : value === 'max' ? 2 ** 32 - 1 : Number(value);
  return lines(text).map((line) => {
    const [device = '', ...pairs] = line.split(/\s+/);
    const values = new Map(pairs.map((pair) => pair.split('=', 2) as [string, string]));
    return {
      device,
      hcaHandles: count(values.get('hca_handle')),
      hcaObjects: count(values.get('hca_object')),
    };
  });
}

function halves(value: bigint): WireUint64 {
  const parts = { low: Number(value & 0xffffffffn), high: Number(value >> 32n), unsigned: true };
  return parts as unknown as WireUint64;
}
