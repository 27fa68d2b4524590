import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { notifyReady } from './notify.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'thaw-notify-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

/** A fake systemd-notify, which writes down what it was told: the real one needs systemd. */
function fakeNotify(exitCode: number): string {
  const told = join(dir, 'told');
  const script = `#!/bin/sh\necho "$NOTIFY_SOCKET $*" >${told}.new; mv ${told}.new ${told}; exit ${exitCode}\n`;
  writeFileSync(join(dir, 'systemd-notify'), script);
  chmodSync(join(dir, 'systemd-notify'), 0o755);
  return told;
}
const environment = () => ({ PATH: `${dir}:/usr/bin:/bin`, NOTIFY_SOCKET: '/run/notify' });

test('systemd is told which process is ready', async () => {
  const told = fakeNotify(0);
  const errors: unknown[] = [];
  await notifyReady(environment(), 7, (error) => errors.push(error));
  expect(readFileSync(told, 'utf8')).toBe('/run/notify --ready --pid=7\n');
  expect(errors).toEqual([]);
});

test('a message that cannot be sent is an error for the log alone', async () => {
  fakeNotify(1);
  const errors: unknown[] = [];
  await notifyReady(environment(), 7, (error) => errors.push(error));
  expect(errors).toEqual([expect.any(Error)]);
});

test('nothing happens without systemd', async () => {
  const told = fakeNotify(0);
  await notifyReady({ PATH: environment().PATH }, 7, () => expect.unreachable());
  expect(existsSync(told)).toBe(false);
});
