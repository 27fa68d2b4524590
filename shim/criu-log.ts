/** What went wrong, out of CRIU's dump.log or restore.log. */

/** Lines that CRIU prints as errors in every run here or there, and that never are the cause. */
const NOISE = [
  /rlimit: Can't setup RLIMIT_NOFILE/,
  /cgroupd: recv req error/,
  /Restoring FAILED/,
  /Dumping FAILED/,
  /Can't get pidfd/,
  /binfmt_misc/,
  /Unable to get \$HOME directory/,
];

const ERROR_LINE = /^\([\d.]+\)\s*(?:\d+:\s*)?Error \([^)]*\): (.*)$/;

/** The last few error messages, oldest first, without positions in CRIU's source. */
export function criuErrors(log: string, limit = 3): string[] {
  const messages = log.split('\n').flatMap((line) => {
    const message = ERROR_LINE.exec(line.trim())?.[1];
    return message && !NOISE.some((noise) => noise.test(message)) ? [message.trim()] : [];
  });
  return [...new Set(messages)].slice(-limit);
}

/** Those in one line, or the end of the log where it has none. */
export function criuSaid(log: string): string {
  const errors = criuErrors(log);
  return (errors.length > 0 ? errors : log.trimEnd().split('\n').slice(-3)).join('; ');
}

/** runc's message without the name of CRIU's log file, which lies in a directory that does not outlive the run. */
export function withoutLogFile(message: string): string {
  return message.replace(/[\s:;,]*log file: \S+/g, '').trim();
}
