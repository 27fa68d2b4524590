import { expect, it } from 'vitest';
import { dumpConf, restoreConf } from './criu-conf.ts';

it('closes connections in the images, unless they are to be saved', () => {
  expect(dumpConf({ openTcp: false, linkRemap: false })).toMatch(/^tcp-close\nnetwork-lock skip\n/);
  // CRIU must hold back packets for what it saves, and a word for closing would win over runc's flag.
  expect(dumpConf({ openTcp: true, linkRemap: true })).not.toMatch(/tcp-close|network-lock/);
  expect(dumpConf({ openTcp: true, linkRemap: true })).toMatch(/^skip-in-flight$/m);
  expect(dumpConf({ openTcp: true, linkRemap: true })).toMatch(/^link-remap$/m);
  expect(dumpConf({ openTcp: false, linkRemap: false })).not.toMatch(/link-remap/);
  expect(restoreConf()).toMatch(/^tcp-close$/m);
});
