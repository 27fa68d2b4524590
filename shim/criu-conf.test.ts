import { expect, it } from 'vitest';
import { type DumpConf, dumpConf, restoreConf } from './criu-conf.ts';

const conf = (change: Partial<DumpConf> = {}) =>
  dumpConf({ openTcp: false, linkRemap: false, skippedMounts: [], ...change });

it('closes connections in the images, unless they are to be saved', () => {
  expect(conf()).toMatch(/^tcp-close\nnetwork-lock skip\n/);
  // CRIU must hold back packets for what it saves, and a word for closing would win over runc's flag.
  expect(conf({ openTcp: true })).not.toMatch(/tcp-close|network-lock/);
  expect(conf({ openTcp: true, linkRemap: true })).toMatch(/^skip-in-flight$/m);
  expect(conf({ linkRemap: true })).toMatch(/^link-remap$/m);
  expect(conf()).not.toMatch(/link-remap|skip-mnt/);
  expect(conf({ skippedMounts: ['/a', '/b'] })).toMatch(/^skip-mnt \/a\nskip-mnt \/b$/m);
  expect(restoreConf()).toMatch(/^tcp-close$/m);
});
