import { describe, expect, it } from 'vitest';
import { ABSENT, type FileState, fingerprint } from './files.ts';
import { type Change, type Entry, type InstallRecord, restorationOf, withChanges } from './record.ts';

const file = (text: string): FileState => ({ kind: 'file', mode: 0o644, text });
const EMPTY: InstallRecord = { format: 1, containerdChanged: 0, entries: [] };
const change = (from: FileState, to: FileState, area: Change['area'] = 'system'): Change => ({
  path: '/x',
  area,
  from,
  to,
});
const only = (record: InstallRecord): Entry => {
  const [entry, ...others] = record.entries;
  if (!entry || others.length > 0) throw new Error(`${record.entries.length} entries`);
  return entry;
};

describe('the record', () => {
  it('keeps what was there first, over any number of installations', () => {
    const first = withChanges(EMPTY, [change(file('theirs'), file('1'))]);
    const second = withChanges(first, [change(file('1'), file('2'))]);
    expect(only(second).before).toEqual(file('theirs'));
    expect(restorationOf(only(second), file('2'))).toEqual({ kind: 'put', state: file('theirs') });
  });
  it('knows its own file also where the change that it tells of did not happen', () => {
    const first = withChanges(EMPTY, [change(ABSENT, file('1'))]);
    const cutOff = withChanges(first, [change(file('1'), file('2'))]);
    expect(restorationOf(only(cutOff), file('1'))).toEqual({ kind: 'put', state: ABSENT });
    expect(only(withChanges(cutOff, [change(file('1'), file('2'))])).before).toEqual(ABSENT);
  });
  it('takes what somebody changed meanwhile for what is to be restored', () => {
    const first = withChanges(EMPTY, [change(file('theirs'), file('1'))]);
    expect(only(withChanges(first, [change(file('new'), file('2'))])).before).toEqual(file('new'));
  });
  it('of a configuration that was changed meanwhile has no line of ours', () => {
    const text = 'a = 1\nb = 2 # thaw install\n';
    const entry = only(withChanges(EMPTY, [change(file(text), file('x'), 'containerd')]));
    expect(entry.before).toEqual(file('a = 1\n'));
  });
});

describe('what is restored', () => {
  const entry = (before: FileState, ours: FileState, area: Entry['area'] = 'system'): Entry => ({
    path: '/x',
    area,
    before,
    ours: [fingerprint(ours)],
  });
  const link: FileState = { kind: 'link', target: '/opt/thaw/current/bin/thaw' };
  it('is nothing where all is as before, or gone', () => {
    expect(restorationOf(entry(ABSENT, link), ABSENT)).toEqual({ kind: 'nothing' });
    expect(restorationOf(entry(file('a'), link), file('a'))).toEqual({ kind: 'nothing' });
    expect(restorationOf(entry(file('a'), file('b')), ABSENT)).toEqual({ kind: 'nothing' });
  });
  it('takes away a link of ours, and not one that leads elsewhere', () => {
    expect(restorationOf(entry(ABSENT, link), link)).toEqual({ kind: 'put', state: ABSENT });
    expect(restorationOf(entry(ABSENT, link), { kind: 'link', target: '/else' })).toEqual({
      kind: 'aside',
      state: ABSENT,
    });
  });
  it('of a configuration changed since is all but our lines', () => {
    const now = file('a = 1\nb = 2 # thaw install\nc = 3\n');
    const of = entry(file('a = 1\n'), file('a = 1\nb = 2 # thaw install\n'), 'containerd');
    expect(restorationOf(of, now)).toEqual({ kind: 'put', state: file('a = 1\nc = 3\n') });
    expect(restorationOf(of, file('z = 1\n'))).toEqual({ kind: 'nothing' });
  });
  it('sees a mode that changed', () => {
    expect(fingerprint(file('a'))).not.toBe(fingerprint({ kind: 'file', mode: 0o600, text: 'a' }));
  });
});
