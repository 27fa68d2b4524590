// Bundles each program into one file below dist/lib, and copies what a bundle cannot hold (native addons, protos).

import { existsSync } from 'node:fs';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import pkg from '../package.json' with { type: 'json' };

const root = join(import.meta.dirname, '..');
const programs = [
  { name: 'shim', entry: 'shim/main.ts' },
  { name: 'thaw-snapshotter', entry: 'snapshotter/main.ts' },
  { name: 'thaw', entry: 'cli/main.ts' },
].filter((p) => existsSync(join(root, p.entry)));

// Loaded at run time from dist/node_modules: they carry native code or load files beside themselves.
const external = ['better-sqlite3', 'lz4-napi'];

for (const { name, entry } of programs) {
  await build({
    entryPoints: [join(root, entry)],
    outfile: join(root, `dist/lib/${name}.mjs`),
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
