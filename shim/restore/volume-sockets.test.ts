import { mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Magic, writeMessages } from '../../checkpoint/criu/framing.ts';
import { criu } from '../../proto/gen/criu-forge.js';
import { volumeSockets } from './volume-sockets.ts';

let dir: string;
const servers: Server[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sockets-'));
});
afterEach(async () => {
  for (const server of servers.splice(0)) await new Promise((resolve) => server.close(resolve));
  await rm(dir, { recursive: true });
});

const at = (name: string) => join(dir, name);

/** A socket as CRIU leaves it: nobody needs to listen there. */
async function bind(name: string): Promise<void> {
  const server = createServer();
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(at(name), resolve));
}

it('takes away what a restore has bound in a volume, and nothing else', async () => {
  const names = ['/data/new.sock\0', '/data/old.sock\0', '/data/file\0', '\0abstract', '/run/own.sock\0', ''];
  const outside = ['/data/../outside.sock\0', '/data/link/outside.sock\0'];
  const messages = [...names, ...outside].map((name) =>
    criu.OpenFile.encode({ type: 5, id: 1, usk: { name: Buffer.from(name) } }).finish(),
  );
  const relative = { name: Buffer.from('relative.sock\0'), nameDir: '/data' };
  messages.push(criu.OpenFile.encode({ type: 5, id: 2, usk: relative }).finish());
  const images = await mkdtemp(at('images-'));
  await writeFile(join(images, 'files.img'), writeMessages(Magic.files, messages));
  const volume = await mkdtemp(at('volume-'));
  const inVolume = (name: string) => join(volume, name).slice(dir.length + 1);
  await bind(inVolume('old.sock'));
  await symlink(dir, join(volume, 'link'));

  const mounts = [{ destination: '/data', type: 'bind', source: volume, options: ['rbind'] }];
  const sockets = await volumeSockets(images, { mounts });
  for (const name of ['new.sock', 'relative.sock', 'other.sock']) await bind(inVolume(name));
  await bind('outside.sock');
  await writeFile(join(volume, 'file'), '');
  await sockets.takeAway();

  expect((await readdir(volume)).sort()).toEqual(['file', 'link', 'old.sock', 'other.sock']);
  expect(await readdir(dir)).toContain('outside.sock');
});
