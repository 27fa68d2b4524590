/** The store beside a model of plain maps: random calls have the same results, errors and rows in both. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Code, describeError } from '../../proto/status.ts';
import { Random } from '../random.test-helper.ts';
import { type Kind, type Labels, SnapshotStore } from './index.ts';

interface Row {
  name: string;
  parent: string;
  kind: Kind;
  labels: Labels;
  created: bigint;
  updated: bigint;
  directory: number;
}

/** containerd's rules (snapshots/storage/bolt.go) in the plainest form. */
class Model {
  readonly rows = new Map<string, Row>();

  create(row: Row): Code {
    const parent = this.rows.get(row.parent);
    if (row.parent !== '' && !parent) return Code.notFound;
    if (parent && parent.kind !== 'committed') return Code.invalidArgument;
    if (this.rows.has(row.name)) return Code.alreadyExists;
    this.rows.set(row.name, row);
    return Code.ok;
  }

  commit(name: string, key: string, labels: Labels, now: bigint): Code {
    if (this.rows.has(name)) return Code.alreadyExists;
    const row = this.rows.get(key);
    if (!row) return Code.notFound;
    if (row.kind !== 'active') return Code.failedPrecondition;
    this.rows.delete(key);
    this.rows.set(name, { ...row, name, kind: 'committed', labels, created: now, updated: now });
    return Code.ok;
  }

  remove(name: string): Code {
    if (!this.rows.has(name)) return Code.notFound;
    for (const row of this.rows.values()) if (row.parent === name) return Code.failedPrecondition;
    this.rows.delete(name);
    return Code.ok;
  }

  update(name: string, labels: Labels, now: bigint): Code {
    const row = this.rows.get(name);
    if (!row) return Code.notFound;
    this.rows.set(name, { ...row, labels, updated: now });
    return Code.ok;
  }

  ancestors(name: string): string[] {
    const parent = this.rows.get(name)?.parent;
    return parent ? [parent, ...this.ancestors(parent)] : [];
  }
}

let dir: string;
let store: SnapshotStore;
const open = () => {
  store = new SnapshotStore(join(dir, 'meta.db'));
};

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-property-'));
  open();
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true });
});

const codeOf = (call: () => void): Code => {
  try {
    call();
    return Code.ok;
  } catch (error) {
    return describeError(error).code;
  }
};
const rowsOfStore = () => {
  const listing = store.list();
  const rows = new Map<string, Row>();
  for (let page = listing.next(7); page.length > 0; page = listing.next(7))
    for (const { directory, ...info } of page) rows.set(info.name, { ...info, directory: directory.id });
  listing.close();
  return rows;
};

test.each([1, 2, 3])('random calls, seed %i', (seed) => {
  const random = new Random(seed);
  const model = new Model();
  const codes = new Map<Code, number>();
  const name = () => random.of(['a', 'b', 'c', 'd', 'e/1', 'e/2', '', "f'", 'ü']);
  const labels = (): Labels =>
    Object.fromEntries(random.many(2, () => [random.of(['l', 'm.n']), random.of(['1', 'x y'])]));
  const removed = new Set<number>();
  let now = 1_800_000_000_000_000_000n;
  for (let step = 0; step < 200; step++) {
    now += 1n;
    let [expected, found]: Code[] = [];
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2: {
        const kind = random.of<Kind>(['active', 'active', 'view', 'committed']);
        const directory = store.reserveDirectory();
        const row = {
          name: `${name()}.`,
          parent: '',
          kind,
          labels: labels(),
          created: now,
          updated: now,
          directory,
        };
        row.parent = random.below(3) === 0 ? '' : `${name()}.`;
        expected = model.create(row);
        found = codeOf(() => store.create({ ...row, now }, { kind: 'own', id: directory }));
        break;
      }
      case 3:
      case 4: {
        const [to, key, given] = [`${name()}.`, `${name()}.`, labels()];
        expected = model.commit(to, key, given, now);
        found = codeOf(() => store.commit(to, key, given, now));
        break;
      }
      case 5: {
        const gone = `${name()}.`;
        const directory = model.rows.get(gone)?.directory;
        expected = model.remove(gone);
        found = codeOf(() => expect(store.remove(gone).directory).toBe(directory));
        if (expected === Code.ok) removed.add(directory ?? -1);
        break;
      }
      case 6: {
        const [of, given] = [`${name()}.`, labels()];
        expected = model.update(of, given, now);
        found = codeOf(() => store.update(of, given, [], now));
        break;
      }
      default: {
        store.close();
        open();
        continue;
      }
    }
    expect(found, `step ${step}`).toBe(expected);
    codes.set(found as Code, (codes.get(found as Code) ?? 0) + 1);
    expect(rowsOfStore(), `step ${step}`).toEqual(model.rows);
    for (const { name } of model.rows.values())
      expect(store.ancestors(name).map((row) => row.name)).toEqual(model.ancestors(name));
    const directories = new Set([...model.rows.values()].map((row) => row.directory));
    expect(store.directories()).toEqual(directories);
    for (const directory of removed) expect(directories.has(directory)).toBe(false);
  }
  // The calls met every answer there is.
  expect([...codes.keys()].sort((a, b) => a - b)).toEqual([
    Code.ok,
    Code.invalidArgument,
    Code.notFound,
    Code.alreadyExists,
    Code.failedPrecondition,
  ]);
});
