import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { containerd, google, runtimeoptions } from '../../proto/gen/shim.js';
import { randomBytes } from '../testing.ts';
import { bootstrapParams, install, makeBundle, run, runAsync, startArgs } from './testing.ts';

/** A server that writes down how it was started, then goes on for a while. */
const SERVER = `{
  for word; do printf 'arg %s\\n' "$word"; done
  for fd in /proc/$$/fd/*; do printf 'fd %s %s\\n' "\${fd##*/}" "$(readlink "$fd")"; done
  printf 'session %s\\n' "$(cut -d' ' -f6 /proc/$$/stat)"
  printf 'pid %s\\n' $$
  printf 'cwd %s\\n' "$PWD"
  printf 'umask %s\\n' "$(umask)"
  printf 'env %s\\n' "$TTRPC_ADDRESS"
  printf 'oom %s\\n' "$(cat /proc/$$/oom_score_adj)"
  printf 'sigpipe %s\\n' "$(sed -n 's/^SigIgn:[[:space:]]*//p' /proc/$$/status)"
} >started.new 2>/dev/null
mv started.new started
exec sleep 5`;

const QUIET = 'exec sleep 2';
const hash = (...parts: string[]) => createHash('sha256').update(parts.join('/')).digest('hex');

function start(launcher: string, bundle: string, sockets: string, args = startArgs) {
  return run(launcher, args, { cwd: bundle, input: bootstrapParams(sockets) });
}

async function lines(bundle: string): Promise<string[]> {
  const file = join(bundle, 'started');
  for (let tries = 0; !existsSync(file) && tries < 500; tries += 1)
    await new Promise((r) => setTimeout(r, 10));
  return readFileSync(file, 'utf8').trimEnd().split('\n');
}

/** What is in front of it and how it ends does not matter to who connects. */
function connects(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    onTestFinished(() => void socket.destroy());
  });
}

/** Somebody who listens there. */
async function listen(path: string): Promise<Server> {
  const server = createServer().listen(path);
  onTestFinished(() => void server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  return server;
}

/** A process that ends without closing leaves its socket. */
function leaveSocket(path: string): void {
  const code = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.exit(0))`;
  execFileSync(process.execPath, ['-e', code]);
}

describe('start', () => {
  it('prints the address and leaves a server behind it', async () => {
    const { tree, launcher } = install(SERVER);
    const { bundle, sockets } = makeBundle();
    const path = join(sockets, hash('/run/c.sock', 'ns', 'c1'));
    // Its output is closed: whoever reads it would wait for the last holder.
    const ran = run(launcher, ['-debug', ...startArgs], {
      cwd: bundle,
      input: bootstrapParams(sockets),
      env: { TTRPC_ADDRESS: '/t.sock' },
    });
    expect(ran).toEqual({ status: 0, stdout: `unix://${path}`, stderr: '' });
    expect(readFileSync(join(bundle, 'address'), 'utf8')).toBe(`unix://${path}`);
    expect(statSync(join(bundle, 'address')).mode & 0o777).toBe(0o600);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(sockets).mode & 0o777).toBe(0o700);
    expect(await connects(path)).toBe(true);

    const seen = await lines(bundle);
    const value = (name: string) => seen.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1);
    const args = seen.flatMap((line) => (line.startsWith('arg ') ? [line.slice(4)] : []));
    const at = args.indexOf(join(tree, 'lib/shim.cjs'));
    expect(args.slice(at + 1)).toEqual([
      '-namespace',
      'ns',
      '-id',
      'c1',
      '-address',
      '/run/c.sock',
      '-socket',
      path,
      '-debug',
      'serve',
    ]);
    const fds = seen.filter((line) => line.startsWith('fd ')).map((line) => line.split(' ').slice(1, 3));
    expect(fds.find(([fd]) => fd === '0')).toEqual(['0', '/dev/null']);
    expect(fds.find(([fd]) => fd === '3')?.[1]).toMatch(/^socket:/);
    // The shell itself keeps some: its output before the redirection (from 10 on) and its script.
    expect(
      fds.filter(([, target]) => /^socket:|^pipe:|\.new$/.test(target ?? '')).length,
    ).toBeLessThanOrEqual(4);
    expect(value('session')).toBe(value('pid'));
    expect(value('cwd')).toBe(bundle);
    expect(value('umask')).toBe(`${process.umask().toString(8).padStart(4, '0')}`);
    expect(value('env')).toBe('/t.sock');
    const own = Number(readFileSync('/proc/self/oom_score_adj', 'utf8'));
    expect(Number(value('oom'))).toBe(Math.min(own + 1, 1000));
    // Bit 12 is SIGPIPE.
    expect(Number.parseInt(value('sigpipe')?.slice(-4) ?? '', 16) & 0x1000).toBe(0);
  });

  it('uses the socket of a server that answers', async () => {
    const { launcher } = install(SERVER);
    const { bundle, sockets } = makeBundle({ annotations: { 'io.kubernetes.cri.sandbox-id': 'pod' } });
    const path = join(sockets, hash('/run/c.sock', 'ns', 'pod'));
    execFileSync('mkdir', ['-p', sockets]);
    await listen(path);
    const ran = await runAsync(launcher, startArgs, { cwd: bundle, input: bootstrapParams(sockets) });
    expect(ran).toEqual({ status: 0, stdout: `unix://${path}`, stderr: '' });
    expect(readFileSync(join(bundle, 'address'), 'utf8')).toBe(`unix://${path}`);
    expect(readdirSync(bundle).sort()).toEqual(['address', 'config.json']);
  });

  it('replaces a socket whose owner is gone', async () => {
    const { launcher } = install(QUIET);
    const { bundle, sockets } = makeBundle();
    const path = join(sockets, hash('/run/c.sock', 'ns', 'c1'));
    execFileSync('mkdir', ['-p', sockets]);
    leaveSocket(path);
    expect(start(launcher, bundle, sockets).status).toBe(0);
    expect(await connects(path)).toBe(true);
  });

  it.each(['nothing', 'a dead socket'])(
    'makes one server of many at the same moment where there was %s',
    async (what) => {
      const { launcher } = install('echo $$ >>../servers; exec sleep 2');
      const { bundle, sockets } = makeBundle({ annotations: { 'io.containerd.runc.v2.group': 'team' } });
      const path = join(sockets, hash('/run/c.sock', 'ns', 'team'));
      execFileSync('mkdir', ['-p', sockets]);
      if (what !== 'nothing') leaveSocket(path);
      const ran = await Promise.all(
        Array.from({ length: 12 }, async (_, n) => {
          const other = join(bundle, `../c${n + 10}`);
          execFileSync('cp', ['-r', bundle, other]);
          return runAsync(launcher, startArgs, { cwd: other, input: bootstrapParams(sockets) });
        }),
      );
      for (const one of ran) expect(one).toEqual({ status: 0, stdout: `unix://${path}`, stderr: '' });
      await new Promise((r) => setTimeout(r, 200));
      expect(readFileSync(join(bundle, '../servers'), 'utf8').trim().split('\n')).toHaveLength(1);
      expect(await connects(path)).toBe(true);
    },
  );

  it('says why the server cannot run, and leaves no socket', () => {
    const { tree, launcher } = install(QUIET);
    writeFileSync(join(tree, 'bin/node'), 'no program at all');
    const { bundle, sockets } = makeBundle();
    const ran = start(launcher, bundle, sockets);
    expect(ran).toEqual({
      status: 1,
      stdout: '',
      stderr: `Cannot run "${tree}/bin/node": Exec format error\n`,
    });
    expect(readdirSync(sockets)).toEqual([]);
  });

  it('keeps what the server says about its own failure for delete', async () => {
    const { launcher } = install('echo "node: GLIBC_2.99 not found" >&2; exit 127');
    const { bundle, sockets } = makeBundle();
    expect(start(launcher, bundle, sockets).status).toBe(0);
    await new Promise((r) => setTimeout(r, 100));
    const ran = run(launcher, ['-namespace', 'ns', '-id', 'c1', '-bundle', bundle, 'delete']);
    expect(ran.stderr).toBe("The shim's server wrote: node: GLIBC_2.99 not found \n");
    expect(readdirSync(sockets)).toEqual([]);
  });

  it('refuses a path that no socket can have', () => {
    const { bundle, sockets } = makeBundle();
    const ran = start(install(QUIET).launcher, bundle, `${sockets}/${'x'.repeat(60)}`);
    expect(ran.status).toBe(1);
    expect(ran.stderr).toMatch(/^Cannot listen on ".*": the path is longer than 106 bytes\n$/);
  });

  it.each([
    ['/run/c.sock', '/run/c.sock/ns/c1'],
    ['/run//containerd/./x/../c.sock/', '/run/containerd/c.sock/ns/c1'],
    ['', 'ns/c1'],
  ])('cleans the address %j as Go does', (address, joined) => {
    const { bundle, sockets } = makeBundle();
    const ran = start(install(QUIET).launcher, bundle, sockets, [
      '-namespace=ns',
      `-address=${address}`,
      '-id=c1',
      'start',
    ]);
    expect(ran.stdout).toBe(`unix://${join(sockets, hash(joined))}`);
  });
});

describe('the bundle’s config.json', () => {
  const group = (config: unknown) => {
    const { bundle, sockets } = makeBundle(config);
    const { status, stdout, stderr } = start(install(QUIET).launcher, bundle, sockets);
    return status === 0 ? stdout.slice(`unix://${sockets}/`.length) : stderr;
  };
  const named = (name: string) => hash('/run/c.sock', 'ns', name);
  const team = '"io.containerd.runc.v2.group": "team"';

  it.each([
    ['no annotations', '{}', 'c1'],
    ['null for annotations', '{"annotations": null}', 'c1'],
    ['the explicit group first', `{"annotations": {"io.kubernetes.cri.sandbox-id": "pod", ${team}}}`, 'team'],
    ['the pod else', '{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}', 'pod'],
    ['an empty one as none', '{"annotations": {"io.containerd.runc.v2.group": ""}}', 'c1'],
    ['escapes', '{"annotations": {"io.containerd.runc.v2.grou\\u0070": "\\u0074\\ud83d\\ude00"}}', 't😀'],
    ['the last of a key that comes twice', `{"annotations": {${team}, ${team.replace('team', 'x')}}}`, 'x'],
    [
      'another type as none',
      '{"annotations": {"io.containerd.runc.v2.group": {"io.containerd.runc.v2.group": "y"}}}',
      'c1',
    ],
    ['nothing of another place', `{"process": {"annotations": {${team}}}, "a": [{${team}}], ${team}}`, 'c1'],
    ['nothing of a list', `{"annotations": [{${team}}, "io.containerd.runc.v2.group", "team"]}`, 'c1'],
    [
      'numbers of any size',
      `{"a": [18446744073709551615, -1e308, 1e-999, 0.${'1'.repeat(400)}], "annotations": {${team}}}`,
      'team',
    ],
    ['a NUL in a name as none', '{"annotations": {"io.containerd.runc.v2.group": "a\\u0000b"}}', 'c1'],
    [
      'nesting as deep as runc reads it',
      `{"annotations": {${team}}, "a": ${'['.repeat(9000)}${']'.repeat(9000)}}`,
      'team',
    ],
  ])('takes %s', (_, config, name) => {
    expect(group(config)).toBe(named(name));
  });

  it('passes over text that is no UTF-8', () => {
    const config = Buffer.concat([
      Buffer.from('{"a": "'),
      Buffer.from([0xff, 0xc0, 0x80]),
      Buffer.from(`", "annotations": {${team}}}`),
    ]);
    expect(group(config)).toBe(named('team'));
  });

  it.each([
    ['nothing', '', 'The document is empty. (byte 0)'],
    ['half of it', '{"annotations": {"io.cont', 'Missing a closing quotation mark in string. (byte 25)'],
    ['something behind it', '{} x', 'The document root must not be followed by other values. (byte 3)'],
    ['a NUL', '{}\0', 'it has a NUL byte at 2'],
    ['a list', '[]', 'it is no JSON object'],
    ['a text', '"x"', 'it is no JSON object'],
    ['a lone surrogate', '{"a": "\\ud83dx"}', 'The surrogate pair in string is invalid. (byte 7)'],
    ['a comma too many', '{"a": 1,}', 'Missing a name for object member. (byte 8)'],
    ['nesting without end', `{"a": ${'['.repeat(3_000_000)}`, 'it is nested deeper than 10000 levels'],
    ['objects without end', '{"a":'.repeat(500_000), 'it is nested deeper than 10000 levels'],
  ])('refuses %s', (_, config, reason) => {
    expect(group(config)).toBe(`Cannot read "config.json": ${reason}\n`);
  });

  it('may be large', () => {
    const env = Array.from({ length: 200_000 }, (_, n) => `NAME_${n}=some value of an ordinary length`);
    expect(group({ process: { env }, annotations: { 'io.containerd.runc.v2.group': 'team' } })).toBe(
      named('team'),
    );
  });

  it('must be there', () => {
    const { bundle, sockets } = makeBundle();
    execFileSync('rm', [join(bundle, 'config.json')]);
    expect(start(install(QUIET).launcher, bundle, sockets).stderr).toBe(
      'Cannot read "config.json": No such file or directory\n',
    );
  });
});

describe('what containerd writes to start', () => {
  let launcher: string;
  let bundle: string;
  let sockets: string;
  beforeEach(() => {
    ({ launcher } = install('exit 0'));
    ({ bundle, sockets } = makeBundle());
  });
  const input = (bytes: Uint8Array) => run(launcher, startArgs, { cwd: bundle, input: bytes });
  const any = (type_url: string, value: Uint8Array) =>
    google.protobuf.Any.encode({ type_url, value }).finish();
  const broken = Buffer.from([0x1a, 0x7f]);

  it('may be BootstrapParams with a negative log level, unknown fields and extensions of others', () => {
    const options = containerd.runc.v1.Options.encode({ ioUid: 7, binaryName: 'x' }).finish();
    const params = bootstrapParams(sockets, {
      logLevel: -8,
      extensions: [
        { value: { type_url: 'other.Extension', value: broken } },
        { value: { type_url: 'containerd.runc.v1.Options', value: options } },
      ],
    });
    // Field 100: a varint, eight bytes, four bytes.
    const unknown = Buffer.from(
      'a00680808001a106112233445566778800a50611223344'.replace('00a5', 'a5'),
      'hex',
    );
    expect(input(Buffer.concat([params, unknown])).stdout).toMatch(`unix://${sockets}/`);
  });

  it.each([
    ['bytes that are no message', Buffer.from([0x0a, 0x7f]), 'Cannot decode the options on standard input'],
    ['field number 0', Buffer.from([0x02, 0x00]), 'Cannot decode the options on standard input'],
    ['a varint without end', Buffer.alloc(12, 0xff), 'Cannot decode the options on standard input'],
    [
      'broken runc options',
      any('containerd.runc.v1.Options', broken),
      'Cannot decode the options on standard input: broken containerd.runc.v1.Options',
    ],
    [
      'broken CRI options',
      any('x.io/runtimeoptions.v1.Options', broken),
      'Cannot decode the options on standard input: broken runtimeoptions.v1.Options',
    ],
    [
      'broken TOML',
      any(
        'runtimeoptions.v1.Options',
        runtimeoptions.v1.Options.encode({ configBody: Buffer.from('A = 1\nB 2') }).finish(),
      ),
      'Cannot read the runtime options (TOML): line 2 is no key and value',
    ],
    [
      'a missing file',
      any(
        'runtimeoptions.v1.Options',
        runtimeoptions.v1.Options.encode({ configPath: '/no/such.toml' }).finish(),
      ),
      'Cannot read the runtime options "/no/such.toml": No such file or directory',
    ],
  ])('is refused if it is %s', (_, bytes, message) => {
    expect(input(bytes)).toEqual({ status: 1, stdout: '', stderr: `${message}\n` });
  });

  it.each([
    ['a text', 'ShimCgroup = "/no\\u002fsuch"'],
    [
      'among other values',
      'a = [1, "]", # ]\n2]\nb = {c = "}"}\r\n"quoted key" = 1979-05-27\nd.ShimCgroup = "x"\nShimCgroup = \'/no/such\' # x',
    ],
    [
      'after long texts',
      'a = """\n"" \\"" \\\n  x"""\nb = \'\'\'\n\'\' = \'\'\'\nShimCgroup="/no/such"\n[table]\nShimCgroup = 1 2',
    ],
  ])('names a cgroup in TOML: %s', (_, toml) => {
    const value = runtimeoptions.v1.Options.encode({ configBody: Buffer.from(toml) }).finish();
    const params = bootstrapParams(sockets, {
      extensions: [{ value: { type_url: 'runtimeoptions.v1.Options', value } }],
    });
    expect(input(params).stderr).toBe(
      'Cannot put the shim into the cgroup "/no/such": No such file or directory\n',
    );
    expect(readdirSync(sockets)).toEqual([]);
  });

  it('never brings it down, whatever it is', () => {
    const options = containerd.runc.v1.Options.encode({ binaryName: 'runc', root: '/r', ioGid: 5 }).finish();
    const valid = bootstrapParams(sockets, {
      extensions: [{ value: { type_url: 'containerd.runc.v1.Options', value: options } }],
    });
    const seed = 20_240_611;
    const noise = randomBytes(seed, 4 * 60);
    for (let n = 0; n < 60; n += 1) {
      const bytes = Buffer.from(valid);
      const at = noise.readUInt16LE(4 * n) % bytes.length;
      // Not in the name of this folder, with its tag and length: what it became would be made, and left behind.
      const named = bytes.indexOf(sockets);
      const leads = at >= named - 2 && at < named + sockets.length - 1;
      if (n % 3 === 0 && !leads) bytes[at] = noise[4 * n + 2] ?? 0;
      const cut = n % 3 === 1 ? bytes.subarray(0, at) : bytes;
      // A changed name makes it an Any, whose address needs root: then it may fail, but in words.
      const { status, stderr } = input(cut);
      expect([status, status === 0 || /^Cannot /.test(stderr), n, seed]).toEqual([
        status === 0 ? 0 : 1,
        true,
        n,
        seed,
      ]);
    }
  });
});
