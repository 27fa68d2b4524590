import { describe, expect, it } from 'vitest';
import { describeError } from '../../proto/status.ts';
import { parseBuildSpec, quantityBytes } from './spec.ts';

const LEAST = 'image = "base/server:1"\n[ready]\ntcp = { port = 8080 }\n';

function refusal(text: string, format: 'toml' | 'json' = 'toml'): string {
  try {
    parseBuildSpec(text, format);
  } catch (error) {
    const { message, context } = describeError(error);
    expect(context.usage).toBe(true);
    return message;
  }
  throw new Error('it was taken');
}

it('needs an image and a way to be ready, and has defaults for all else', () => {
  expect(parseBuildSpec(LEAST, 'toml')).toEqual({
    image: 'base/server:1',
    env: {},
    mounts: [],
    resources: {},
    security: { add: [], drop: [], allow_privilege_escalation: true, read_only_root: false },
    pod: { termination_log: true, service_account: true },
    ready: { tcp: { port: 8080 }, timeout_s: 600 },
    warm_up: [],
  });
});

it('reads everything that there is', () => {
  const text = `
image = "base/server:1"
command = ["/server"]
args = ["--port", "8080"]
working_dir = "/srv"
user = "1000:1000"
env = { MODEL = "small" }
resources = { memory = "4Gi", cpus = 1.5 }
security = { drop = ["ALL"], add = ["NET_BIND_SERVICE"] }
pod = { service_account = false }
verify = { http = { port = 8080, path = "/healthz" } }

[[mounts]]
source = "/srv/weights"
destination = "/weights"
read_only = true

[ready]
log_line = "^listening on"
timeout_s = 30

[[warm_up]]
http = { port = 8080, method = "POST", path = "/generate", headers = { "content-type" = "text/plain" }, body = "x", status = 201 }
times = 3
[[warm_up]]
exec = ["/warm"]

[quiesce]
signal = "SIGUSR1"
until = { file = "/run/quiet" }
`;
  expect(parseBuildSpec(text, 'toml')).toMatchObject({
    mounts: [{ source: '/srv/weights', destination: '/weights', read_only: true }],
    ready: { log_line: '^listening on', timeout_s: 30 },
    warm_up: [
      { http: { method: 'POST', status: 201 }, times: 3, timeout_s: 600 },
      { exec: ['/warm'], times: 1 },
    ],
    quiesce: { signal: 'SIGUSR1', until: { file: '/run/quiet' }, timeout_s: 60 },
  });
});

it('is the same as JSON', () => {
  expect(parseBuildSpec('{"image":"base/server:1","ready":{"tcp":{"port":8080}}}', 'json')).toEqual(
    parseBuildSpec(LEAST, 'toml'),
  );
});

describe('what is wrong is named', () => {
  it.each([
    [`imagee = "x"\n${LEAST}`, 'unknown key "imagee"'],
    [`${LEAST}timeout = 3\n`, 'unknown key "ready.timeout"'],
    [`${LEAST}[[mounts]]\nsource = "/a"\ndestination = "/b"\nro = true\n`, 'unknown key "mounts.0.ro"'],
    ['[ready]\ntcp = { port = 1 }\n', '"image" is missing'],
    ['image = "x"\n', '"ready" is missing'],
    [
      'image = "x"\n[ready]\ntimeout_s = 3\n',
      '"ready": needs exactly one of http, tcp, exec, file, log_line',
    ],
    ['image = "x"\n[ready]\nfile = "/a"\ntcp = { port = 1 }\n', 'not tcp and file'],
    ['image = "x"\n[ready]\ntcp = { port = 70000 }\n', '"ready.tcp.port": '],
    ['image = "x"\n[ready]\nlog_line = "("\n', '"ready.log_line": must be a regular expression'],
    ['image = "x"\n[ready]\nfile = "relative"\n', '"ready.file": must be an absolute path'],
    [`${LEAST}[quiesce]\nsignal = "SIGKILL"\n`, '"quiesce.signal": must be a signal'],
    [`${LEAST}[quiesce]\n`, '"quiesce": needs exactly one of signal, exec'],
    [`${LEAST}[resources]\nmemory = "4 GB"\n`, '"resources.memory": must be bytes, as "4Gi"'],
    [`${LEAST}[[warm_up]]\nhttp = { port = 1, path = "x" }\n`, '"warm_up.0.http.path": '],
    ['image = \n', 'it is no valid TOML in line 1'],
  ])('%j', (text, said) => expect(refusal(text)).toContain(said));

  it('all at once', () => {
    const said = refusal('imag = "x"\n[ready]\ntcp = { port = 0 }\n');
    expect(said).toContain('unknown key "imag"');
    expect(said).toContain('"image" is missing');
    expect(said).toContain('"ready.tcp.port"');
  });

  it('for JSON too', () => expect(refusal('{', 'json')).toContain('it is no valid JSON'));
});

it.each([
  ['123', 123n],
  ['500M', 500_000_000n],
  ['4Gi', 4n << 30n],
])('a quantity of %s is %s bytes', (quantity, bytes) => expect(quantityBytes(quantity)).toBe(bytes));
