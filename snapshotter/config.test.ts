import { expect, test } from 'vitest';
import { Code } from '../proto/status.ts';
import { loadConfig, parseConfig } from './config.ts';

test('an empty file gives the defaults', () => {
  expect(parseConfig('')).toEqual({
    root: '/var/lib/thaw',
    state: '/run/thaw',
    address: '/run/thaw/snapshotter.sock',
    containerd_address: '/run/containerd/containerd.sock',
    log_level: 'info',
    fetch: { connections: 8, index_timeout_ms: 30_000, read_timeout_ms: 120_000 },
    overlay: { volatile: false },
    cache: {},
    layers: { mounts: 'auto' },
    metrics: {},
    image_service: { keep_credentials_s: 43_200 },
    pull_secrets: [],
    hosts_dirs: ['/etc/containerd/certs.d'],
    registries: {},
  });
});

test('the command line wins over the file, and the socket lies in the state directory', () => {
  const text = 'root = "/a"\nstate = "/b"\n[registries."r.example:5000"]\nplain_http = true\n';
  const config = parseConfig(text, { root: '/c' });
  expect(config).toMatchObject({ root: '/c', state: '/b', address: '/b/snapshotter.sock' });
  expect(config.registries).toEqual({ 'r.example:5000': { plain_http: true } });
});

test.each([
  ['rot = "/a"', 'unknown key "rot" (did you mean "root"?)'],
  ['[fetch]\nconections = 1', 'unknown key "fetch.conections" (did you mean "fetch.connections"?)'],
  ['[colour]\nx = 1', 'unknown key "colour"'],
  ['[registries."x"]\nhttp = true', 'unknown key "registries.x.http"'],
  ['[registries."x"]\nmirrors = ["https://m"]', '"registries.x.mirrors.0": must be a host, or host:port'],
  ['root = "relative"', '"root": must be an absolute path'],
  ['pull_secrets = ["a"]', '"pull_secrets.0": must be an absolute path'],
  ['[fetch]\nconnections = 0', '"fetch.connections": '],
  ['[metrics]\naddress = ":9417"', '"metrics.address": must be host:port'],
  ['[metrics]\naddress = "localhost:70000"', '"metrics.address": has no such port'],
  ['[overlay]\nvolatile = "yes"', '"overlay.volatile": '],
  ['[cache]\nmax_bytes = 0', '"cache.max_bytes": '],
  ['root = ', 'it is no valid TOML in line 1'],
])('%j is refused with its key', (text, message) => {
  expect(() => parseConfig(text)).toThrow(
    expect.objectContaining({ code: Code.invalidArgument, message: expect.stringContaining(message) }),
  );
});

test('a missing file is an error only if it was asked for', () => {
  expect(loadConfig({ path: '/nonexistent/thaw.toml', required: false }, {}).root).toBe('/var/lib/thaw');
  expect(() => loadConfig({ path: '/nonexistent/thaw.toml', required: true }, {})).toThrow(
    'Cannot read the configuration file "/nonexistent/thaw.toml"; check that it exists and can be read',
  );
});
