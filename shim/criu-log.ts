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
