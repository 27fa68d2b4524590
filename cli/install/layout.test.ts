import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ABSENT, type FileState } from './files.ts';
import { links, units } from './layout.ts';
import { changedLines, changeLines } from './lines.ts';

const unit = (name: string) => readFileSync(join(import.meta.dirname, '../../deploy/systemd', name), 'utf8');
const DEFAULT = { root: '/var/lib/thaw', state: '/run/thaw', address: '/run/thaw/snapshotter.sock' };
const at = (prefix: string) => ({ prefix, binDir: '/usr/local/bin', unitDir: '/etc/systemd/system' });
const text = (state: FileState | undefined) => (state?.kind === 'file' ? state.text : '');

describe('links and units', () => {
  it('are those of deploy/systemd on an ordinary node', () => {
    const [socket, service] = units(at('/opt/thaw'), DEFAULT, undefined, unit);
    expect(text(socket?.state)).toBe(unit('thaw-snapshotter.socket'));
    expect(text(service?.state)).toBe(unit('thaw-snapshotter.service'));
    expect(service?.path).toBe('/etc/systemd/system/thaw-snapshotter.service');
  });
  it('follow the prefix, the configuration and its sockets', () => {
    const daemon = { root: '/data', state: '/run/t', address: '/run/t/s.sock' };
    const all = units(at('/usr/thaw'), daemon, '/etc/t.toml', unit)
      .map(({ state }) => text(state))
      .join('');
    expect(all).toContain('ExecStart=/usr/thaw/current/bin/thaw-snapshotter --config /etc/t.toml\n');
    expect(all).toContain('ListenStream=/run/t/s.sock\nListenStream=/run/t/thaw.sock\n');
    expect(all).toContain('RequiresMountsFor=/data\n');
    expect(all).not.toMatch(/\/opt\/thaw|\/run\/thaw|\/var\/lib\/thaw/);
  });
  it('lead through `current`', () => {
    expect(links(at('/opt/thaw')).map(({ state }) => state)).toContainEqual({
      kind: 'link',
      target: '/opt/thaw/current/bin/containerd-shim-thaw-v2',
    });
  });
});

describe('lines of a change', () => {
  it('are what goes and what comes', () => {
    expect(changedLines(['a', 'b', 'c'], ['a', 'x', 'c', 'd'])).toEqual(['- b', '+ x', '+ d']);
    expect(changedLines(['a'], ['a'])).toEqual([]);
    expect(changedLines([], ['a'])).toEqual(['+ a']);
  });
  it('name the file and what becomes of it', () => {
    const file = (content: string): FileState => ({ kind: 'file', mode: 0o644, text: content });
    const show = (from: FileState, to: FileState) => changeLines({ path: '/x', from, to });
    expect(show(ABSENT, file('a'))).toEqual(['write /x']);
    expect(show(file('a\nb'), file('a\nc'))).toEqual(['change /x', '    - b', '    + c']);
    expect(show(file('a'), ABSENT)).toEqual(['remove /x']);
    expect(show(ABSENT, { kind: 'link', target: '/y' })).toEqual(['link /x -> /y']);
  });
});
