/** `thaw install` and `thaw uninstall` killed at any moment. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CrashPoint, privateDir, run } from './lib/index.ts';
import { flags, type Places, placesIn, readable, thaw, unpack } from './lib/install.ts';

describe('killed before any of its calls that change the disk', () => {
  /** Every call, or every fifth: each costs some starts of the command. Odd, so that both ways out of it are taken. */
  const STRIDE = process.env['THAW_FULL'] === '1' ? 1 : 5;
  let dir: string;
  let places: Places;
  let point: CrashPoint;
  let package_ = '';

  beforeAll(() => {
    dir = privateDir('install');
    places = placesIn(join(dir, 'node'), join(dir, 'node/etc/config.toml'));
    package_ = unpack(dir, '0.1.0');
    point = new CrashPoint(join(dir, 'node'));
  });
  afterAll(() => {
    point?.remove();
    if (dir) rmSync(dir, { recursive: true, force: true });
  });

  const ORIGINAL =
    '# mine\nversion = 2\n\n[plugins."io.containerd.grpc.v1.cri".cni]\n  bin_dir = "/usr/lib/cni"\n';

  async function fresh(): Promise<void> {
    rmSync(join(dir, 'node'), { recursive: true, force: true });
    mkdirSync(dirname(places.containerdConfig), { recursive: true });
    writeFileSync(places.containerdConfig, ORIGINAL);
    // Placing it has a test of its own, and a thousand calls. Nothing writes into what is placed: links will do.
    mkdirSync(places.prefix);
    await run('cp', ['-al', package_, join(places.prefix, '0.1.0')]);
  }
  const call = (verb: string, env: NodeJS.ProcessEnv = {}) =>
    thaw(join(places.prefix, '0.1.0'), ['--address', '/nonexistent', verb, ...flags(places)], { env });
  const tree = () => ({
    config: readFileSync(places.containerdConfig, 'utf8'),
    dropIns:
      existsSync(join(dirname(places.containerdConfig), 'conf.d')) &&
      readdirSync(join(dirname(places.containerdConfig), 'conf.d')),
    links: existsSync(places.binDir) && readdirSync(places.binDir),
    current: existsSync(join(places.prefix, 'current')) && readlinkSync(join(places.prefix, 'current')),
  });

  it('leaves a containerd that starts, and an installation that is completed or undone by the next call', async () => {
    await fresh();
    point.arm(0, 'kill');
    expect((await call('install', point.env)).code).toBe(0);
    const calls = point.count();
    expect(calls).toBeGreaterThan(10);
    const complete = tree();
    for (let at = 1; at <= calls; at += STRIDE) {
      await fresh();
      point.arm(at, 'kill');
      expect((await call('install', point.env)).code).not.toBe(0);
      point.disarm();
      expect(await readable(places.containerdConfig), `call ${at}`).toBe(true);
      // Half of an installation can be undone as well as completed.
      if (at % 2 === 0) {
        expect((await call('uninstall')).code).toBe(0);
        expect(readFileSync(places.containerdConfig, 'utf8')).toBe(ORIGINAL);
      } else {
        expect((await call('install')).code).toBe(0);
        expect(tree(), `call ${at}`).toEqual(complete);
      }
    }
  }, 300_000);

  it('of its uninstallation leaves one that the next call ends', async () => {
    // What comes after these calls removes folders.
    for (let at = 1; at <= 30; at += STRIDE === 1 ? 1 : 8) {
      await fresh();
      expect((await call('install')).code).toBe(0);
      point.arm(at, 'kill');
      await call('uninstall', point.env);
      point.disarm();
      expect(await readable(places.containerdConfig), `call ${at}`).toBe(true);
      const last = await thaw(package_, ['--address', '/nonexistent', 'uninstall', ...flags(places)]);
      expect(last.code, last.stderr).toBe(0);
      expect(readFileSync(places.containerdConfig, 'utf8')).toBe(ORIGINAL);
      expect(existsSync(places.prefix), `call ${at}`).toBe(false);
      expect(readdirSync(places.binDir)).toEqual([]);
    }
  }, 300_000);
});
