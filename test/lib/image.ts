/** Small OCI images built without a network: layers from lists of entries, a tar that `ctr images import` takes, a push. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { arch } from 'node:process';
import { type Pack, pack } from 'tar-stream';
import { Code } from '../../proto/status.ts';
import { TestError } from './error.ts';

export interface Entry {
  /** Without a leading slash. Parents need not be listed. */
  path: string;
  /** Default 0755 for directories, 0644 for files. */
  mode?: number;
  uid?: number;
  gid?: number;
  /** Exactly one of these; none makes a directory. */
  content?: string | Uint8Array;
  symlink?: string;
  hardlink?: string;
}

export interface Blob {
  mediaType: string;
  digest: string;
  bytes: Buffer;
}

export interface ImageConfig {
  entrypoint?: string[];
  cmd?: string[];
  env?: string[];
  workingDir?: string;
  user?: string;
}

export interface Image {
  manifest: Blob;
  config: Blob;
  layers: Blob[];
}

const media = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  index: 'application/vnd.oci.image.index.v1+json',
} as const;

/** An uncompressed layer. The same entries always give the same digest. */
export async function layer(entries: readonly Entry[]): Promise<Blob> {
  const tar = pack();
  for (const entry of entries) {
    const header = {
      name: entry.path,
      uid: entry.uid ?? 0,
      gid: entry.gid ?? 0,
      mtime: new Date(0),
    };
    if (entry.content !== undefined) {
      const content = Buffer.from(entry.content);
      tar.entry({ ...header, mode: entry.mode ?? 0o644, size: content.length }, content);
    } else if (entry.symlink !== undefined) {
      tar.entry({ ...header, type: 'symlink', linkname: entry.symlink });
    } else if (entry.hardlink !== undefined) {
      tar.entry({ ...header, type: 'link', linkname: entry.hardlink });
    } else {
      tar.entry({ ...header, type: 'directory', mode: entry.mode ?? 0o755 });
    }
  }
  tar.finalize();
  return blob(media.layer, await collect(tar));
}

/** A root file system with a static busybox: enough for sh, sleep, cat, httpd, nc. */
export function busybox(program = '/usr/bin/busybox'): Entry[] {
  const applets = [
    'sh',
    'sleep',
    'cat',
    'echo',
    'ls',
    'id',
    'env',
    'true',
    'false',
    'test',
    'kill',
    'ps',
    'stat',
  ];
  applets.push(
    'touch',
    'mkdir',
    'rm',
    'ln',
    'hostname',
    'httpd',
    'nc',
    'wget',
    'head',
    'dd',
    'date',
    'tail',
    'wc',
  );
  const directories = ['bin', 'etc', 'proc', 'sys', 'dev', 'run', 'root', 'var'];
  return [
    ...directories.map((path): Entry => ({ path })),
    { path: 'tmp', mode: 0o1777 },
    {
      path: 'etc/passwd',
      content: 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
    },
    { path: 'etc/group', content: 'root:x:0:\nnogroup:x:65534:\n' },
    { path: 'bin/busybox', mode: 0o755, content: readFileSync(program) },
    ...applets.map((name): Entry => ({ path: `bin/${name}`, symlink: 'busybox' })),
  ];
}

/** An image of these layers. Everything in it depends on its input alone, so the digest does too. */
export function image(layers: readonly Blob[], config: ImageConfig = {}): Image {
  const configBlob = json(media.config, {
    architecture: arch === 'x64' ? 'amd64' : arch,
    os: 'linux',
    config: {
      ...(config.entrypoint ? { Entrypoint: config.entrypoint } : {}),
      ...(config.cmd ? { Cmd: config.cmd } : {}),
      Env: config.env ?? ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      WorkingDir: config.workingDir ?? '/',
      ...(config.user ? { User: config.user } : {}),
    },
    rootfs: { type: 'layers', diff_ids: layers.map((l) => l.digest) },
  });
  const manifest = json(media.manifest, {
    schemaVersion: 2,
    mediaType: media.manifest,
    config: descriptor(configBlob),
    layers: layers.map(descriptor),
  });
  return { manifest, config: configBlob, layers: [...layers] };
}

/** The pause container of a pod: a process that waits to be killed. */
export async function pauseImage(): Promise<Image> {
  const sleeper = { path: 'bin/busybox', mode: 0o755, content: readFileSync('/usr/bin/busybox') };
  return image([await layer([{ path: 'bin' }, sleeper])], {
    entrypoint: [
      '/bin/busybox',
      'sh',
      '-c',
      'trap "exit 0" TERM INT; while :; do busybox sleep 3600 & wait; done',
    ],
    env: ['PATH=/bin'],
  });
}

/** An image-layout tar for `ctr images import`. `name` is the full reference. */
export async function imageTar(name: string, built: Image): Promise<Buffer> {
  const tar = pack();
  const add = (path: string, content: Buffer) => tar.entry({ name: path, mtime: new Date(0) }, content);
  add('oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
  const annotations = { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name };
  const index = {
    schemaVersion: 2,
    mediaType: media.index,
    manifests: [{ ...descriptor(built.manifest), annotations }],
  };
  add('index.json', Buffer.from(JSON.stringify(index)));
  for (const { digest, bytes } of uniqueBlobs(built)) add(`blobs/${digest.replace(':', '/')}`, bytes);
  tar.finalize();
  return collect(tar);
}

/** Pushes to a registry without credentials; returns the reference with the tag. */
export async function push(host: string, repository: string, tag: string, built: Image): Promise<string> {
  const base = `http://${host}/v2/${repository}`;
  for (const { digest, bytes } of uniqueBlobs(built).filter((b) => b !== built.manifest)) {
    const started = await request(`${base}/blobs/uploads/`, { method: 'POST' });
    const location = new URL(started.headers.get('location') ?? '', base);
    location.searchParams.set('digest', digest);
    const headers = { 'content-type': 'application/octet-stream' };
    await request(location, { method: 'PUT', headers, body: Uint8Array.from(bytes) });
  }
  await request(`${base}/manifests/${tag}`, {
    method: 'PUT',
    headers: { 'content-type': built.manifest.mediaType },
    body: Uint8Array.from(built.manifest.bytes),
  });
  return `${host}/${repository}:${tag}`;
}

async function request(url: string | URL, init: RequestInit): Promise<Response> {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(30_000) });
  const text = await response.text();
  if (!response.ok)
    throw new TestError(Code.unknown, `${init.method} ${url} was answered with ${response.status}: ${text}`);
  return response;
}

export function blob(mediaType: string, bytes: Buffer): Blob {
  return { mediaType, digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, bytes };
}

function json(mediaType: string, value: unknown): Blob {
  return blob(mediaType, Buffer.from(JSON.stringify(value)));
}

function descriptor({ mediaType, digest, bytes }: Blob) {
  return { mediaType, digest, size: bytes.length };
}

function uniqueBlobs(built: Image): Blob[] {
  return [...new Map([...built.layers, built.config, built.manifest].map((b) => [b.digest, b])).values()];
}

async function collect(tar: Pack): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of tar) if (chunk instanceof Uint8Array) chunks.push(chunk);
  return Buffer.concat(chunks);
}
