import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Code } from '../../proto/status.ts';
import { askCredentialHelper } from './credential-helper.ts';
import { CredentialStore, type CredentialStoreOptions } from './credential-store.ts';
import type { Credentials } from './credentials.ts';

const HOST = 'r.example';
let dir: string;
let path: string;
let clock: number;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'thaw-credentials-'));
  path = join(dir, 'config.json');
  clock = 0;
});
afterEach(async () => {
  await rm(dir, { recursive: true });
});

const password = (username: string, secret = 'secret'): Credentials => ({
  kind: 'password',
  username,
  password: secret,
});
const document = (username: string, host = HOST) =>
  JSON.stringify({ auths: { [host]: { auth: Buffer.from(`${username}:secret`).toString('base64') } } });
const environment = () => ({ PATH: `${dir}:/usr/bin:/bin` });
const open = (over: Partial<CredentialStoreOptions> = {}) =>
  new CredentialStore({
    dockerConfig: { path, required: true },
    environment: environment(),
    now: () => clock,
    ...over,
  });
const ask = (store: CredentialStore, ...refused: Credentials[]) =>
  store.find({ registry: HOST, repository: 'team/app', refused });
/** A credential helper of the name "test". */
async function helper(script: string): Promise<void> {
  await writeFile(join(dir, 'docker-credential-test'), `#!/bin/sh\n${script}\n`);
  await chmod(join(dir, 'docker-credential-test'), 0o755);
}
const flatten = (error: unknown) => JSON.stringify(error, Object.getOwnPropertyNames(error));

describe('files', () => {
  test('a docker config is read again when it changes, in place or by another file', async () => {
    const store = open();
    await writeFile(path, document('one'));
    expect(await ask(store)).toEqual(password('one'));
    await writeFile(path, document('two'));
    expect(await ask(store)).toEqual(password('two'));
    await writeFile(`${path}.new`, document('six'));
    await rename(`${path}.new`, path);
    expect(await ask(store)).toEqual(password('six'));
    expect(await ask(store, password('six'))).toBeUndefined();
  });

  test('a docker config that is not there is an error only if it was asked for by name', async () => {
    await expect(ask(open())).rejects.toMatchObject({
      code: Code.invalidArgument,
      message: `Cannot read the registry credentials in "${path}": check that it exists and can be read`,
    });
    expect(await ask(open({ dockerConfig: { path, required: false } }))).toBeUndefined();
  });

  test('secrets are files, mounted folders, and folders of both, in order', async () => {
    const file = join(dir, 'own');
    await writeFile(file, document('file'));
    // As the kubelet mounts a secret.
    const mounted = join(dir, 'mounted');
    await mkdir(join(mounted, '..data_1'), { recursive: true });
    await symlink('..data_1', join(mounted, '..data'));
    await writeFile(join(mounted, '..data_1', '.dockerconfigjson'), document('mounted'));
    await symlink('..data/.dockerconfigjson', join(mounted, '.dockerconfigjson'));
    const many = join(dir, 'many');
    await mkdir(join(many, 'old'), { recursive: true });
    await writeFile(join(many, 'README'), 'no secret');
    await writeFile(join(many, 'a.json'), document('json'));
    const dockercfg = { [HOST]: { username: 'old', password: 'secret' } };
    await writeFile(join(many, 'old', '.dockercfg'), JSON.stringify(dockercfg));
    const store = open({ dockerConfig: undefined, pullSecrets: [file, mounted, many] });
    const found: Credentials[] = [];
    for (let next = await ask(store); next; next = await ask(store, ...found)) found.push(next);
    expect(found).toEqual(['file', 'mounted', 'json', 'old'].map((name) => password(name)));
    // The kubelet changes a mounted secret with one rename.
    await mkdir(join(mounted, '..data_2'));
    await writeFile(join(mounted, '..data_2', '.dockerconfigjson'), document('renewed'));
    await symlink('..data_2', join(mounted, '..new'));
    await rename(join(mounted, '..new'), join(mounted, '..data'));
    expect(await ask(store, password('file'))).toEqual(password('renewed'));
  });

  test('one that cannot be read does not hide another, and is named without a word of it', async () => {
    await writeFile(path, '{"auths": "hunter2"');
    const good = join(dir, 'good');
    await writeFile(good, document('good'));
    expect(await ask(open({ pullSecrets: [join(dir, 'gone'), good] }))).toEqual(password('good'));
    const failure: unknown = await ask(open()).catch((error) => error);
    expect(failure).toMatchObject({
      message: expect.stringContaining(`"${path}": it is no docker config.json`),
    });
    expect(flatten(failure)).not.toContain('hunter2');
  });

  test('a secret cannot have programs run', async () => {
    const ran = join(dir, 'ran');
    await helper(`touch ${ran}`);
    await writeFile(path, JSON.stringify({ credsStore: 'test', credHelpers: { [HOST]: 'test' } }));
    expect(await ask(open({ dockerConfig: undefined, pullSecrets: [path] }))).toBeUndefined();
    expect(existsSync(ran)).toBe(false);
  });
});

describe('credential helpers', () => {
  const config = JSON.stringify({ credHelpers: { [HOST]: 'test' } });

  test('one is asked once, and again when its answer was refused', async () => {
    await writeFile(path, config);
    const asked = join(dir, 'asked');
    await helper(
      `[ "$1" = get ] && cat >>${asked} && echo >>${asked} && printf '{"ServerURL":"x","Username":"u%s","Secret":"secret"}' $(wc -l <${asked})`,
    );
    const store = open();
    const both = await Promise.all([ask(store), ask(store)]);
    expect(both).toEqual([password('u1'), password('u1')]);
    // Not at once: a registry that refuses everything would have it run for every request.
    expect(await ask(store, password('u1'))).toBeUndefined();
    clock = 60_000;
    expect(await ask(store)).toEqual(password('u1'));
    expect(await ask(store, password('u1'))).toEqual(password('u2'));
    expect(await ask(store, password('u1'))).toEqual(password('u2'));
    expect(await readFile(asked, 'utf8')).toBe(`${HOST}\n${HOST}\n`);
  });

  test('one may have an identity token, or nothing, and then the file itself is asked', async () => {
    await writeFile(path, JSON.stringify({ ...JSON.parse(document('own')), credsStore: 'test' }));
    await helper(`echo '{"ServerURL":"x","Username":"<token>","Secret":"identity"}'`);
    expect(await ask(open())).toEqual({ kind: 'refresh-token', token: 'identity' });
    await helper('echo credentials not found in native keychain; exit 1');
    expect(await ask(open())).toEqual(password('own'));
  });

  test.each([
    ['echo hunter2; echo hunter2 >&2; exit 3', 'ended with 3'],
    ['echo "hunter2 {"', 'gave an answer that is none of a credential helper'],
    ['yes hunter2', 'gave an endless answer and was ended'],
  ])('what %j says is nowhere to be seen', async (script, message) => {
    await writeFile(path, config);
    await helper(script);
    const failure: unknown = await ask(open()).catch((error) => error);
    expect(failure).toMatchObject({
      code: Code.unauthenticated,
      message: expect.stringContaining(
        `docker-credential-test, which the docker config.json names, ${message}`,
      ),
    });
    expect(flatten(failure)).not.toContain('hunter2');
  });

  test('one that is not installed is named', async () => {
    await writeFile(path, config);
    await expect(ask(open())).rejects.toThrow(
      'docker-credential-test, which the docker config.json names, is not in',
    );
  });

  test.each(['deadline', 'close'] as const)('one that hangs is ended with all it started: %s', async (by) => {
    const pid = join(dir, 'pid');
    await helper(`sleep 1000 & echo $! >${pid}.new; mv ${pid}.new ${pid}; wait`);
    const closed = new AbortController();
    const answer = askCredentialHelper('test', HOST, {
      environment: environment(),
      timeoutMs: by === 'deadline' ? 1_000 : 60_000,
      signal: closed.signal,
    });
    const outcome = expect(answer).rejects.toThrow('was ended');
    await expect.poll(() => existsSync(pid), { timeout: 20_000 }).toBe(true);
    if (by === 'close') closed.abort();
    await outcome;
    const child = (await readFile(pid, 'utf8')).trim();
    const state = () => readFile(`/proc/${child}/stat`, 'utf8').catch(() => ' Z ');
    await expect.poll(state, { timeout: 20_000 }).toMatch(/ Z /);
  });
});
