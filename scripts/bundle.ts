// Bundles each program into dist/lib, and copies what a bundle cannot hold (native addons, protos). A program is an
// entry NAME.mjs and chunks NAME-HASH.mjs beside it, one for each group of modules that is imported on demand, so that
// an action loads no more than it needs.

import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import pkg from '../package.json' with { type: 'json' };

const root = join(import.meta.dirname, '..');
const programs = [
  { name: 'shim', entry: 'shim/main.ts' },
  { name: 'thaw-snapshotter', entry: 'snapshotter/main.ts' },
  { name: 'thaw', entry: 'cli/main.ts' },
  // Started by the CLI as a thread.
  { name: 'pack-worker', entry: 'checkpoint/pack/worker.ts' },
].filter((p) => existsSync(join(root, p.entry)));

// Loaded at run time from dist/node_modules: they carry native code or load files beside themselves.
const external = ['better-sqlite3', 'lz4-napi'];

const lib = join(root, 'dist/lib');
await mkdir(lib, { recursive: true });
for (const { name, entry } of programs) {
  const chunk = new RegExp(`^${name}-[A-Z0-9]{8}\\.mjs(\\.map)?$`);
  for (const stale of (await readdir(lib)).filter((file) => chunk.test(file))) await rm(join(lib, stale));
  await build({
    entryPoints: { [name]: join(root, entry) },
    outdir: lib,
    outExtension: { '.js': '.mjs' },
    // Flat: what looks for a file beside the program finds it from a chunk too.
    chunkNames: `${name}-[hash]`,
    splitting: true,
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    sourcemap: 'linked',
    minifySyntax: true,
    external,
    define: { 'process.env.THAW_VERSION': JSON.stringify(pkg.version) },
    // grpc-js and friends are CommonJS and call require() for Node's own modules.
    banner: {
      js: "import { createRequire as __cr } from 'node:module'; const require = __cr(import.meta.url);",
    },
    logLevel: 'warning',
  });
}

const addon = join(root, 'build/thaw.node');
if (existsSync(addon)) await cp(addon, join(root, 'dist/lib/thaw.node'));
await mkdir(join(root, 'dist/proto'), { recursive: true });
await cp(join(root, 'proto'), join(root, 'dist/proto'), {
  recursive: true,
  filter: (source) => !source.includes('/gen') && (!/\.[a-z]+$/.test(source) || source.endsWith('.proto')),
});
