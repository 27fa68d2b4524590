/** Starts shim/main.ts from its files, with their compiled code. The launcher runs what becomes of this file. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { native } from '../native/index.ts';
import { CompiledParts } from './compiled-parts.ts';

const folder = dirname(import.meta.filename);
const parts = new CompiledParts({
  folder,
  cache: join(folder, 'cache'),
  require: createRequire(import.meta.filename),
  crc32: (bytes) => native.crc32(bytes),
});
const { main } = parts.require('./shim-main.cjs') as typeof import('./main.ts');
void main(parts);
