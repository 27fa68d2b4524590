/** Tells systemd that the daemon is ready, if systemd started it (sd_notify(3)). */
import { execFile } from 'node:child_process';

/**
 * Node has no datagram unix sockets, so systemd-notify sends the message; the unit needs NotifyAccess=all. Also says which
 * process the daemon is, which changes when one takes the place of another. Nothing happens without NOTIFY_SOCKET; the
 * daemon runs on if the message cannot be sent. Settles when it is sent.
 */
export function notifyReady(
  env: NodeJS.ProcessEnv,
  pid: number,
  onError: (error: unknown) => void,
): Promise<void> {
  if (!env['NOTIFY_SOCKET']) return Promise.resolve();
  return new Promise((resolve) => {
    execFile('systemd-notify', ['--ready', `--pid=${pid}`], { env, timeout: 5_000 }, (error) => {
      if (error) onError(error);
      resolve();
    });
  });
}
