import { expect, test } from 'vitest';
import { Code } from '../../../proto/status.ts';
import { parseHosts } from './parse-hosts.ts';

const parsed = (text: string) => parseHosts(text, '/certs');

test('hosts come in the order of the file, the server last', () => {
  const hosts = parsed(`
    server = "https://registry.example"
    ca = "own.pem"
    [host."https://z.example"]
      capabilities = ["pull", "Resolve"]
    [host."a.example:5000"]
      skip_verify = true
    [host."http://m.example/mirror/"]
      dial_timeout = "1m1.5s"
  `);
  expect(hosts.map(({ base }) => base?.href)).toEqual([
    'https://z.example/v2/',
    'https://a.example:5000/v2/',
    'http://m.example/mirror/v2/',
    'https://registry.example/v2/',
  ]);
  expect(hosts.map(({ capabilities }) => capabilities.length)).toEqual([2, 3, 3, 3]);
  expect(hosts.map(({ skipVerify }) => skipVerify)).toEqual([false, true, false, false]);
  expect(hosts[2]?.connectTimeoutMs).toBe(61_500);
  expect(hosts.map(({ ca }) => ca)).toEqual([[], [], [], ['/certs/own.pem']]);
});

test('a path ends in v2, unless it is said to be right as it is', () => {
  const base = (host: string, override = false) =>
    parsed(`[host."${host}"]\noverride_path = ${override}`)[0]?.base?.href;
  expect(base('https://m.example/a/v2')).toBe('https://m.example/a/v2/');
  expect(base('https://m.example/a/../b')).toBe('https://m.example/b/v2/');
  expect(base('https://m.example/artifacts/api', true)).toBe('https://m.example/artifacts/api/');
  expect(base('https://m.example', true)).toBe('https://m.example/');
});

test('certificates are one file, many, or pairs, relative to the folder', () => {
  const client = (value: string) => parsed(`client = ${value}`)[0]?.client;
  expect(client('"both.pem"')).toEqual([{ cert: '/certs/both.pem', key: '/certs/both.pem' }]);
  expect(client('["/abs/a.pem", ["b.cert", "b.key"]]')).toEqual([
    { cert: '/abs/a.pem', key: '/abs/a.pem' },
    { cert: '/certs/b.cert', key: '/certs/b.key' },
  ]);
  expect(parsed('ca = ["a", "/b"]')[0]?.ca).toEqual(['/certs/a', '/b']);
});

test('a header may have several values; an empty file leaves the registry as it is', () => {
  expect(parsed('[header]\nX-One = "1"\nx-two = ["2", "3"]')[0]?.headers).toEqual({
    'x-one': '1',
    'x-two': '2, 3',
  });
  expect(parsed('')).toMatchObject([{ base: undefined, capabilities: ['pull', 'resolve', 'push'] }]);
});

test.each([
  ['server = ', 'it is no valid TOML in line 1'],
  ['capabilities = ["dance"]', '"capabilities.0" is not what containerd takes there'],
  ['client = [["a"]]', '"client" is not'],
  ['[host."https://x"]\nca = 1', '"host.https://x.ca" is not'],
  ['server = "https://"', '"https://" is no address of a host'],
  ['server = "httpx://a"', 'is neither https nor http'],
  ['dial_timeout = "soon"', '"soon" is no duration'],
  ['[header]\nx = "hunter2\\nX-Evil: 1"', 'header "x" has a value that cannot be sent'],
  ['[header]\n"x y" = "hunter2"', '"header.x y" is not'],
])('%j is refused', (text, message) => {
  const failing = () => parsed(text);
  expect(failing).toThrow(
    expect.objectContaining({
      code: Code.invalidArgument,
      message: expect.stringContaining(`Cannot use "/certs/hosts.toml": `),
    }),
  );
  expect(failing).toThrow(message);
  expect(failing).not.toThrow('hunter2');
});
