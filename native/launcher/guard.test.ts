import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const LAUNCHER = join(import.meta.dirname, '../../build/containerd-shim-thaw-v2');

/**
 * Plays the shim: gives the guard three descriptors to hold and a process to end, takes back one, stops it, takes back
 * `sys.argv[3]` more and is gone. Prints how the process is.
 */
const SHIM = `
import fcntl, os, select, signal, socket, struct, subprocess, sys
READY, HOLD, RELEASE, KILL = range(4)
low, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ours = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10))
low.detach()
os.dup2(theirs.fileno(), 3)
os.set_inheritable(3, True)
guard = subprocess.Popen([sys.argv[1], 'guard'], pass_fds=[3])
os.close(3)
theirs.close()
victim = subprocess.Popen(['sleep', '100'])
try:
    def send(what, id, fds=()):
        socket.send_fds(ours, [struct.pack('=IIQ', what, 0, id)], list(fds))
    assert struct.unpack('=IIQ', ours.recv(16))[0] == READY
    null = os.open('/dev/null', os.O_RDONLY)
    send(KILL, 0, [os.pidfd_open(victim.pid)])
    for id in (1, 2, 3): send(HOLD, id, [null])
    send(RELEASE, 1)
    assert select.select([ours], [], [], 20)[0]
    if sys.argv[2] == 'read': ours.recv(16)
    os.kill(guard.pid, signal.SIGSTOP)
    os.waitpid(guard.pid, os.WUNTRACED)
    for id in range(2, 2 + int(sys.argv[3])): send(RELEASE, id)
    ours.close()
    os.kill(guard.pid, signal.SIGCONT)
    try: guard.wait(3)
    except subprocess.TimeoutExpired: pass
    print('ended' if victim.poll() is not None else 'runs')
finally:
    victim.kill()
    guard.kill()
`;

it.each([
  ['let go of everything', 'read', 2, 'runs'],
  ['let go of everything and did not read all answers', 'unread', 2, 'runs'],
  ['did not let go of everything', 'read', 1, 'ended'],
  ['did not let go of everything and did not read all answers', 'unread', 1, 'ended'],
])('a guard whose shim is gone that %s', (_, answers, released, expected) => {
  const { stdout, stderr } = spawnSync(
    '/usr/bin/python3',
    ['-c', SHIM, LAUNCHER, answers, String(released)],
    {
      encoding: 'utf8',
      timeout: 40_000,
    },
  );
  expect(stdout, stderr).toBe(`${expected}\n`);
});
