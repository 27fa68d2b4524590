import { limits } from './limits.ts';

/**
 * Whether a name may be a checkpoint file: one path component of printable ASCII. CRIU's own names need no more, and
 * nothing else can carry a path or a terminal escape.
 */
export function isFileName(name: string): boolean {
  if (name.length === 0 || name.length > limits.nameBytes || name === '.' || name === '..') return false;
  return /^[\x21-\x2e\x30-\x7e]+$/.test(name);
}
