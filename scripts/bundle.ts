// Bundles each program into dist/lib, and copies what a bundle cannot hold (native addons, protos). What is imported on
// demand becomes files of its own, so that an action loads no more than it needs.

import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';
import pkg from '../package.json' with { type: 'json' };

const root = join(import.meta.dirname, '..');
const lib = join(root, 'dist/lib');
const programs = [
  { name: 'thaw-snapshotter', entry: 'snapshotter/main.ts' },
  { name: 'thaw', entry: 'cli/main.ts' },
  // Started by the CLI as a thread.
  { name: 'pack-worker', entry: 'checkpoint/pack/worker.ts' },
  // Started by the daemon as threads.
  { name: 'fetch-worker', entry: 'snapshotter/fetch/worker.ts' },
  { name: 'log-worker', entry: 'snapshotter/store/log-worker.ts' },
];

const common: BuildOptions = {
  outdir: lib,
  bundle: true,
  platform: 'node',
  target: 'node24',
  sourcemap: 'linked',
  minifySyntax: true,
  // Loaded at run time from dist/node_modules: they carry native code or load files beside themselves.
  external: ['better-sqlite3', 'lz4-napi'],
  define: { 'process.env.THAW_VERSION': JSON.stringify(pkg.version) },
  logLevel: 'warning',
};

/** An entry NAME.mjs and chunks NAME-HASH.mjs beside it. */
async function bundleModules({ name, entry }: (typeof programs)[number]): Promise<void> {
  await build({
    ...common,
    entryPoints: { [name]: join(root, entry) },
    outExtension: { '.js': '.mjs' },
    // Flat: what looks for a file beside the program finds it from a chunk too.
    chunkNames: `${name}-[hash]`,
    splitting: true,
    format: 'esm',
    banner: {
      // grpc-js and friends are CommonJS and call require() for Node's own modules.
      js: "import { createRequire as __cr } from 'node:module'; const require = __cr(import.meta.url);",
    },
  });
}

/**
 * The shim starts once a pod, in the way of the pod: each of `entries` (name to file) is one CommonJS file with all that
 * every start needs, and each module imported on demand is another, with its own copy of what both use. Node loads that
 * faster than modules in a dozen shared chunks, and with less memory (docs/architecture.md).
 */
async function bundleScript(name: string, entries: Readonly<Record<string, string>>): Promise<void> {
  const names = new Map(Object.entries(entries).map(([part, entry]) => [join(root, entry), part]));
  const onDemand: Plugin = {
    name: 'on-demand',
    setup({ onResolve }) {
      onResolve({ filter: /^\./ }, ({ kind, path, resolveDir }) => {
        if (kind !== 'dynamic-import') return undefined;
        const file = resolve(resolveDir, path);
        const part = names.get(file) ?? nameOf(name, file);
        names.set(file, part);
        return { path: `./${part}.cjs`, external: true };
      });
    },
  };
  // A map goes on to what is added while it is walked.
  for (const [file, part] of names) {
    await build({
      ...common,
      entryPoints: { [part]: file },
      outExtension: { '.js': '.cjs' },
      format: 'cjs',
      plugins: [onDemand],
      // Code that is not run is still read.
      minifyWhitespace: true,
      // An import() would start Node's loader of modules.
      supported: { 'dynamic-import': false },
      define: { ...common.define, 'import.meta.dirname': '__dirname', 'import.meta.filename': '__filename' },
    });
  }
}

/** shim/restore/plan.ts of the shim: shim-restore-plan. */
function nameOf(program: string, file: string): string {
  const path = relative(root, file).replace(/\.ts$/, '');
  return [program, ...path.split('/').filter((part, at) => at > 0 || part !== program)].join('-');
}

await mkdir(lib, { recursive: true });
for (const file of await readdir(lib))
  if (
    /^(shim|thaw|thaw-snapshotter|pack-worker|fetch-worker|log-worker)(-[\w-]+)?\.[cm]js(\.map)?$/.test(file)
  )
    await rm(join(lib, file));
await bundleScript('shim', { shim: 'shim/load.ts', 'shim-main': 'shim/main.ts' });
for (const program of programs) await bundleModules(program);

const addon = join(root, 'build/thaw.node');
if (existsSync(addon)) await cp(addon, join(lib, basename(addon)));
const protos = join(dirname(lib), 'proto');
await mkdir(protos, { recursive: true });
await cp(join(root, 'proto'), protos, {
  recursive: true,
  filter: (source) => !source.includes('/gen') && (!/\.[a-z]+$/.test(source) || source.endsWith('.proto')),
});
