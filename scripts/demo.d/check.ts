import type { Answer } from './model.ts';
import type { Pod } from './pod.ts';

/**
 * What must be true of a restored container as of any other; ends it by its stop signal at last.
 * @param first its first answer
 * @param source answers of the server it was taken from, before and after the checkpoint
 * @returns what does not hold
 */
export async function checkRestored(
  pod: Pod,
  first: Answer,
  source: { before: Answer; after: Answer },
): Promise<string[]> {
  const complaints: string[] = [];
  const expect = (held: boolean, complaint: string) => {
    if (!held) complaints.push(complaint);
  };

  const { name } = pod.config.metadata;
  expect(first.pod === name, `The server takes itself for '${first.pod}', its pod is '${name}'`);
  expect(first.pid === 1, `The server sees itself as process ${first.pid}, not 1`);
  // It counts its answers in memory, and goes on counting where the source was when it was saved.
  expect(
    first.answered > source.before.answered && first.answered <= source.after.answered,
    `Not the restored process: it counts ${first.answered} answers, the source had ${source.before.answered} to ${source.after.answered}`,
  );

  const command = await pod.exec('cat', '/proc/1/cmdline');
  expect(command.stdout.includes('server.py'), `PID 1 in its container is '${command.stdout}'`);
  const host = await pod.exec('cat', '/proc/sys/kernel/hostname');
  expect(host.stdout.trim() === pod.config.hostname, `The pod's host name became '${host.stdout.trim()}'`);
  const code = await pod.exec('sh', '-c', 'exit 7');
  expect(code.exitCode === 7, `exec of 'exit 7' gave exit code ${code.exitCode}`);
  const hidden = await pod.exec('sh', '-c', 'ls -d /.thaw 2>/dev/null || echo none');
  expect(hidden.stdout.trim() === 'none', 'The checkpoint (/.thaw) is visible in the container');

  const again = await pod.server.ask('And now?');
  const stopped = await pod.stop();
  const log = await pod.log();
  expect(
    log.some((line) => line.endsWith(`answered ${again.digest}`)),
    'What the server wrote is not in its log',
  );
  expect(
    !log.some((line) => line.endsWith('listening')),
    'It started cold: the log shows its initialisation',
  );
  expect(
    log.some((line) => line.endsWith('stopped by SIGTERM')),
    'The stop signal did not reach the server',
  );
  expect(
    stopped.state === 'CONTAINER_EXITED' && stopped.exitCode === 143,
    `After the stop signal it is ${stopped.state} with exit code ${stopped.exitCode}, not 143`,
  );
  return complaints;
}
