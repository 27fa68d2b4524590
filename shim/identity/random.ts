import { closeSync, openSync, readSync } from 'node:fs';

/** From the kernel: node:crypto is megabytes that a shim does not load otherwise, and OpenSSL's state would be one more. */
export function randomHex(bytes: number): string {
  const fd = openSync('/dev/urandom', 'r');
  try {
    const random = Buffer.alloc(bytes);
    readSync(fd, random);
    return random.toString('hex');
  } finally {
    closeSync(fd);
  }
}
