/**
 * A slow link between this node and its registry: a token bucket on loopback, which carries nothing else here. Pods have
 * a bridge of their own, and the daemons speak over unix sockets.
 */
import { run } from '../../../test/lib/index.ts';

export type Gbit = 1 | 4;

export function bytesPerSecond(gbit: Gbit): number {
  return (gbit * 1e9) / 8;
}

export async function throttle(gbit: Gbit): Promise<void> {
  // A bucket of 8 ms and a queue of 100 ms: shallow against a download, deep against the kernel's timers.
  const bucket = ['rate', `${gbit}gbit`, 'burst', `${gbit}mb`, 'latency', '100ms'];
  await run('tc', ['qdisc', 'replace', 'dev', 'lo', 'root', 'tbf', ...bucket]);
}

export async function unthrottle(): Promise<void> {
  await run('tc', ['qdisc', 'del', 'dev', 'lo', 'root'], { allowFailure: true });
}

/** Bytes per second of one plain download of some hundred megabytes, nothing else going on. */
export async function linkSpeed(url: string): Promise<number> {
  const args = ['-sS', '--fail', '-o', '/dev/null', '-r', '0-268435455', '-w', '%{speed_download}', url];
  const { stdout } = await run('curl', args, { timeoutMs: 120_000 });
  return Number(stdout);
}

/** Bytes that have gone over loopback; source: Documentation of /proc/net/dev in proc_pid_net(5), tx_bytes. */
export function parseSentBytes(text: string): number {
  const fields = /^\s*lo:\s*(.*)$/m.exec(text)?.[1]?.split(/\s+/);
  return Number(fields?.[8]);
}
