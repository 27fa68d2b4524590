import { spawn } from 'node:child_process';
import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { containerd, google, runtimeoptions } from '../../proto/gen/shim.js';
import { temporaryFolder } from '../testing.ts';
import { install, run, writeProgram } from './testing.ts';

/** A Node that prints what it was given. */
const PRINTER = `for word; do printf '%s\\n' "$word"; done
printf 'cache=%s\\n' "$NODE_COMPILE_CACHE"
cat
exit 3`;

describe('serve', () => {
  it('becomes the Node and the program of its own tree, with all arguments', () => {
    const { tree, launcher } = install(PRINTER);
    const args = ['-namespace', 'k8s.io', '-id', 'a b', '-publish-binary', '', '-socket', '/s', 'serve'];
    const { status, stdout, stderr } = run(launcher, args, { input: 'input' });
    const lines = stdout.split('\n');
    const at = lines.indexOf(join(tree, 'lib/shim.cjs'));
    expect(lines.slice(0, at).every((flag) => flag.startsWith('--'))).toBe(true);
    expect(lines.slice(at + 1)).toEqual([...args, `cache=${join(tree, 'lib/cache')}`, 'input']);
    expect(status).toBe(3);
    expect(stderr).toBe('');
  });

  it('finds its tree when it is reached through a link', () => {
    const { tree, launcher } = install(PRINTER);
    const link = join(temporaryFolder(), 'containerd-shim-thaw-v2');
    symlinkSync(launcher, link);
    expect(run(link, ['serve']).stdout).toContain(`${join(tree, 'lib/shim.cjs')}\nserve\n`);
  });

  it("leaves the administrator's own compile cache alone", () => {
    const { launcher } = install(PRINTER);
    expect(run(launcher, ['serve'], { env: { NODE_COMPILE_CACHE: '/elsewhere' } }).stdout).toContain(
      'cache=/elsewhere\n',
    );
  });

  it('says what is missing and what to do', () => {
    const { tree, launcher } = install(PRINTER);
    rmSync(join(tree, 'bin/node'));
    expect(run(launcher, ['serve'])).toEqual({
      status: 1,
      stdout: '',
      stderr: `containerd-shim-thaw-v2: Cannot run ${tree}/bin/node: No such file or directory; install thaw again, its files belong together\n`,
    });
    rmSync(join(tree, 'lib/shim.cjs'));
    expect(run(launcher, ['serve']).stderr).toContain(
      `Cannot read ${tree}/lib/shim.cjs: No such file or directory`,
    );
  });
});

describe('the command line', () => {
  it.each([
    [['-v']],
    [['-version']],
    [['--version']],
    [['-version=1']],
    [['-namespace', 'k8s.io', '-debug', '-v']],
    [['-namespace=k8s.io', '-v', 'start']],
  ])('is a question about the version: %j', (args) => {
    const { tree, launcher } = install('');
    rmSync(join(tree, 'bin/node'));
    const { status, stdout } = run(launcher, args);
    expect(stdout).toMatch(/^containerd-shim-thaw-v2:\n {2}Version: {2}\d+\.\d+\.\d+\n$/);
    expect(status).toBe(0);
  });

  it.each([
    [['-id', '-v', 'serve']],
    [['serve', '-v']],
    [['-v=false', 'serve']],
    [['-debug=F', '--', 'serve', '-v']],
    [['-id=x', '-id', 'y']],
  ])('is one of a server: %j', (args) => {
    expect(run(install('exit 3').launcher, args).status).toBe(3);
  });

  it.each([
    [['-nonsense', 'start'], 'flag provided but not defined: -nonsense'],
    [['-id'], 'flag needs an argument: -id'],
    [['-debug=maybe', 'start'], 'invalid boolean value "maybe" for -debug'],
    [['---id', 'x'], 'bad flag syntax: ---id'],
    [['-=x', 'start'], 'bad flag syntax: -=x'],
    [['stop'], 'Unknown action "stop"; use start or delete'],
    [['-'], 'Unknown action "-"; use start or delete'],
    [['--', '-v'], 'Unknown action "-v"; use start or delete'],
    [['-id', 'x', 'start'], 'shim namespace cannot be empty'],
    [['-namespace', 'ns', 'delete'], 'shim id cannot be empty'],
    [['-namespace', 'ns', '-id', '../../etc', 'delete'], 'Cannot use "../../etc" as a container\'s id'],
    [['-namespace', '..', '-id', 'x', 'start'], 'Cannot use ".." as a container\'s namespace'],
  ])('is refused: %j', (args, message) => {
    expect(run(install('').launcher, args)).toEqual({ status: 1, stdout: '', stderr: `${message}\n` });
  });
});

describe('-info', () => {
  const FEATURES = '{"ociVersionMin":"1.0.0"}';
  const ask = (launcher: string, path: string, input: Uint8Array = new Uint8Array()) => {
    const { status, stdout } = run('/bin/sh', ['-c', '"$0" -info | base64', launcher], {
      input,
      env: { PATH: path },
    });
    expect(status).toBe(0);
    return containerd.types.RuntimeInfo.decode(Buffer.from(stdout, 'base64'));
  };
  const program = (script: string) => {
    const folder = temporaryFolder();
    writeProgram(join(folder, 'runc'), script);
    return folder;
  };

  it('says its name, its version and what runc can do', () => {
    const bin = program(`[ "$*" = features ] && echo '${FEATURES}' && echo ignored >&2`);
    const info = ask(install('').launcher, `${bin}:/usr/bin:/bin`);
    expect(info.name).toBe('io.containerd.runc.thaw.v2');
    expect(info.version?.version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(info.features?.type_url).toBe(
      'types.containerd.io/opencontainers/runtime-spec/1/features/Features',
    );
    expect(Buffer.from(info.features?.value ?? []).toString()).toBe(`${FEATURES}\n`);
  });

  it('asks the runtime that the options name', () => {
    const bin = program("echo '{}'");
    const any = (type_url: string, value: Uint8Array) =>
      google.protobuf.Any.encode({ type_url, value }).finish();
    const binaryName = join(bin, 'runc');
    const { launcher } = install('');
    const runc = containerd.runc.v1.Options.encode({ binaryName }).finish();
    const features = (input: Uint8Array) =>
      Buffer.from(ask(launcher, '/usr/bin:/bin', input).features?.value ?? []).toString();
    expect(features(any('type.googleapis.com/containerd.runc.v1.Options', runc))).toBe('{}\n');
    const configBody = Buffer.from(`SystemdCgroup = true # yes\nBinaryName = '${binaryName}'\n[other]\nx`);
    const cri = runtimeoptions.v1.Options.encode({ configBody }).finish();
    expect(features(any('runtimeoptions.v1.Options', cri))).toBe('{}\n');
  });

  it('answers without features where there is no runtime, or one that fails', () => {
    const { launcher } = install('');
    expect(ask(launcher, `${program('exit 1')}:/usr/bin:/bin`).features).toBeNull();
    const named = containerd.runc.v1.Options.encode({ binaryName: '/no/such/runc' }).finish();
    const input = google.protobuf.Any.encode({ type_url: 'containerd.runc.v1.Options', value: named });
    expect(ask(launcher, '/usr/bin:/bin', input.finish()).features).toBeNull();
  });

  it('does not wait for options that never come', async () => {
    const child = spawn(install('').launcher, ['-info'], { stdio: ['pipe', 'ignore', 'ignore'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    const status = await new Promise((resolve) => child.once('exit', resolve));
    expect(status).toBe(0);
  });
});
