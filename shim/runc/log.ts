/** What runc's JSON log says. */

/** Message of the last error line, as containerd's own shim quotes it. */
export function lastError(log: string): string | undefined {
  for (const line of log.trimEnd().split('\n').reverse()) {
    const entry = parse(line);
    if (entry?.level === 'error' && typeof entry.msg === 'string') return entry.msg;
  }
  return undefined;
}

/**
 * The text that containerd's own shim answers where runc says that there is nothing to act on, or undefined. containerd
 * and the kubelet treat those as NotFound.
 */
export function meansProcessGone(message: string): string | undefined {
  const text = message.toLowerCase();
  if (
    text.includes('os: process already finished') ||
    text.includes('container not running') ||
    text.includes('no such process')
  )
    return 'process already finished';
  if (text.includes('does not exist')) return 'no such container';
  return undefined;
}

function parse(line: string): { level?: unknown; msg?: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    // A panic or a line cut off by a kill.
    return undefined;
  }
}
