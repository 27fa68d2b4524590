// Runs inside a test node: makes it as busy as a test does (containerd, a container, a network namespace, a loop
// mount, children that ignore signals), says so, and waits to be killed.
import { spawn } from 'node:child_process';
import { busybox, Containerd, image, layer, run, sleep } from '../lib/index.ts';

spawn('sh', ['-c', 'trap "" TERM INT HUP; setsid sleep 1000 & while :; do sleep 1000; done'], {
  detached: true,
  stdio: 'ignore',
}).unref();
await run('ip', ['netns', 'add', 'busy']);
await run('sh', [
  '-c',
  'truncate -s 16M /state/disk && mkfs.ext4 -q /state/disk && mount -o loop /state/disk /mnt',
]);
process.stdout.write('started\n');

const containerd = await Containerd.start();
await containerd.importImage('test.local/busy:1', image([await layer(busybox())]));
await containerd.ctr(['run', '-d', '--null-io', 'test.local/busy:1', 'busy', 'sleep', '1000']);
process.stdout.write('busy\n');
await sleep(600_000);
