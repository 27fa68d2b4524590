import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { readFiles } from './files.ts';
import { Magic, readMessages, writeMessages } from './framing.ts';
import { hasConnections, rebindSockets } from './inet-sockets.ts';
import { readInventory, withoutTcpClose } from './inventory.ts';
import { bytesField, varintField, wireFields, writeVarint } from './wire.ts';

const fixture = join(import.meta.dirname, '../../test/fixtures/criu-4.2/files.img');
const to = Uint8Array.from([10, 88, 0, 9]);
const word = (octets: number[]) => BigInt(Buffer.from(octets).readUInt32LE());

/** An inet socket as CRIU writes it, with a field in the middle and one at the end that nobody here knows. */
function socket(family: bigint, words: readonly bigint[], packed = false): Uint8Array {
  const address = packed
    ? [bytesField(11, Buffer.concat(words.map(writeVarint)))]
    : words.map((one) => varintField(11, one));
  return Buffer.concat([
    varintField(1, 7n),
    varintField(3, family),
    varintField(6, 10n),
    varintField(7, 9000n),
    bytesField(14, Buffer.from('opts')),
    ...address,
    varintField(900, 5n),
  ]);
}
const file = (isk: Uint8Array) =>
  Buffer.concat([
    varintField(1, 2n),
    varintField(2, 7n),
    bytesField(4, isk),
    bytesField(901, Buffer.from('x')),
  ]);
const image = (...files: Uint8Array[]) => writeMessages(Magic.files, files);

it.each([
  ['one word after the other', false],
  ['packed', true],
])('gives a socket another address, %s, and leaves all else', (_, packed) => {
  const real = file(Buffer.alloc(0));
  const { bytes, sockets } = rebindSockets(
    image(file(socket(2n, [word([10, 88, 0, 5])], packed)), real),
    (a) => {
      expect([...a]).toEqual([10, 88, 0, 5]);
      return to;
    },
  );
  expect(sockets).toEqual([{ from: Buffer.from([10, 88, 0, 5]), to, port: 9000 }]);
  const [changed, other] = readMessages(bytes ?? Buffer.alloc(0), Magic.files, 'x');
  expect(other && Buffer.from(other).equals(real)).toBe(true);
  const fields = [...wireFields(changed ?? Buffer.alloc(0), 'x')];
  expect(fields.map(({ number }) => number)).toEqual([1, 2, 4, 901]);
  const inner = [...wireFields(fields[2]?.value ?? Buffer.alloc(0), 'x')];
  expect(inner.map(({ number }) => number).sort((a, b) => a - b)).toEqual([1, 3, 6, 7, 11, 14, 900]);
  const again: number[][] = [];
  rebindSockets(bytes ?? Buffer.alloc(0), (a) => {
    again.push([...a]);
    return a;
  });
  expect(again).toEqual([[...to]]);
});

it('reads addresses of 16 bytes', () => {
  const words = [0xfdn, 0n, 0n, word([0, 0, 0, 5])];
  const seen: string[] = [];
  const { bytes } = rebindSockets(image(file(socket(10n, words))), (a) => {
    seen.push(Buffer.from(a).toString('hex'));
    return a;
  });
  expect([seen, bytes]).toEqual([['fd000000000000000000000000000005'], undefined]);
});

it('reads and changes those of a real dump', async () => {
  const bytes = await readFile(fixture);
  const { bytes: changed, sockets } = rebindSockets(bytes, (address) => {
    expect([...address]).toEqual([0, 0, 0, 0]);
    return to;
  });
  expect(sockets.length).toBeGreaterThan(0);
  expect(readFiles(changed ?? Buffer.alloc(0))).toEqual(readFiles(bytes));
  expect(rebindSockets(bytes, (address) => address).bytes).toBeUndefined();
});

it('damage is told as what it is', () => {
  for (const broken of [
    Buffer.from([0x22, 0x7f, 1]),
    Buffer.from([0x23]),
    Buffer.alloc(11, 0xff),
    file(Buffer.concat([varintField(3, 10n), varintField(11, 1n)])),
  ])
    expect(() => rebindSockets(image(broken), () => to)).toThrow(
      expect.objectContaining({ code: Code.dataLoss }),
    );
});

it.each([
  ['that listens', 6n, 10n, false],
  ['that is closed', 6n, 7n, false],
  ['that is connected', 6n, 1n, true],
  ['that its peer has closed', 6n, 8n, true],
  ['of UDP, with a peer', 17n, 1n, false],
])('a socket %s is a connection: %s/%s %s', (_, protocol, state, expected) => {
  const isk = Buffer.concat([varintField(3, 2n), varintField(5, protocol), varintField(6, state)]);
  expect(hasConnections(image(file(Buffer.alloc(0)), file(isk)))).toBe(expected);
});

it('an inventory without the demand to close connections is else the same', async () => {
  const saved = await readFile(join(fixture, '../inventory.img'));
  const [message = Buffer.alloc(0)] = readMessages(saved, Magic.inventory, 'x');
  const others = [...wireFields(message, 'x')].filter(({ number }) => number !== 10);
  const closing = Buffer.concat([...others.map(({ whole }) => whole), varintField(10, 1n)]);
  const demanding = writeMessages(Magic.inventory, [closing]);
  expect(readInventory(demanding).tcpClose).toBe(true);
  const [left = Buffer.alloc(0)] = readMessages(withoutTcpClose(demanding), Magic.inventory, 'x');
  expect([...wireFields(left, 'x')].map(({ whole }) => Buffer.from(whole))).toEqual(
    others.map(({ whole }) => Buffer.from(whole)),
  );
  expect(readInventory(withoutTcpClose(demanding)).tcpClose).toBe(false);
});
