/** Terminals of processes under our shim, with real clients. */
import { describe, expect, it } from 'vitest';
import { run, sleep, type TaskClient } from './lib/index.ts';
import {
  descriptors,
  IMAGE,
  RUNTIME,
  type StreamNode,
  shell,
  shimPid,
  useStreamNode,
} from './lib/stream-node.ts';

let node: StreamNode;
let tasks: TaskClient;
useStreamNode((given) => {
  node = given;
  tasks = given.tasks;
});

/** ctr on a terminal of 132 by 43; what is typed comes from `input`. */
function onTerminal(input: string, id: string, ...command: string[]) {
  const line = [
    'stty cols 132 rows 43; exec ctr',
    `--address ${node.containerd.socket} run --rm -t --runtime ${RUNTIME} ${IMAGE} ${id}`,
    // Twice through a shell.
    ...command.map((word) => `'${word.replaceAll('$', '\\$')}'`),
  ].join(' ');
  return run('sh', ['-c', `(${input}) | script -qec "${line}" /dev/null`], {
    allowFailure: true,
    timeoutMs: 30_000,
  });
}

describe('a terminal', () => {
  it('is what ctr -t gets: its size, its input, the exit code', async () => {
    const script =
      'test -t 0 && test -t 1 && test -t 2; echo tty $?; read word; echo got $word; stty size; exit 5';
    const ran = await onTerminal('sleep 2; echo typed; sleep 2', 'tty', 'sh', '-c', script);
    expect(ran.stdout.replaceAll('\r', '')).toMatch(/tty 0\n(typed\n)?got typed\n43 132\n$/);
    expect(ran.code).toBe(5);
  });

  it('ends the input with Ctrl-D', async () => {
    const ran = await onTerminal("sleep 2; printf 'line\\n\\004'; sleep 2", 'eof', 'cat');
    expect(ran.stdout.replaceAll('\r', '')).toContain('line\nline\n');
    expect(ran.code).toBe(0);
  });

  it('belongs to an exec too, with the size that the client sets', async () => {
    await node.idle('exec');
    const pid = shimPid('exec');
    const open = descriptors(pid).length;
    const io = node.fifos();
    await tasks.exec('exec', 'e', shell('while read word; do stty size; done'), {
      ...io.paths,
      terminal: true,
    });
    expect(await tasks.state('exec', 'e')).toMatchObject({ terminal: true, stdout: io.paths.stdout });
    await tasks.resize('exec', 'e', 10, 10);
    await tasks.start('exec', 'e');
    expect(node.consoles('exec')).toEqual([]);
    const reader = io.read('stdout');
    const writer = io.write();
    await tasks.resize('exec', 'e', 132, 43);
    writer.write('\n');
    await reader.until(/43 132\r\n/);
    await tasks.resize('exec', 'e', 0, 0);
    await tasks.resize('exec', 'e', 7, 9);
    writer.write('\n');
    await reader.until(/\n9 7\r\n/);
    writer.write('\u0004');
    expect(await tasks.wait('exec', 'e')).toBe(0);
    await reader.end();
    await tasks.delete('exec', 'e');
    expect(descriptors(pid).length).toBe(open);
  });

  it('keeps what is written while no client reads, for the next one', async () => {
    await node.idle('again');
    const io = node.fifos();
    const script = 'echo first; read word; echo between; read word; echo last';
    await tasks.exec('again', 'e', shell(script), { ...io.paths, terminal: true });
    await tasks.start('again', 'e');
    const writer = io.write();
    const one = io.read('stdout');
    await one.until(/first/);
    await one.vanish();
    writer.write('\n');
    await sleep(300);
    const two = io.read('stdout');
    await two.until(/between/);
    writer.write('\n');
    expect(await two.end()).toMatch(/^\r\nbetween\r\n\r\nlast\r\n$/);
    expect(await tasks.wait('again', 'e')).toBe(0);
  });

  it('is hung up when the client ended its input for good', async () => {
    await node.idle('hup');
    const io = node.fifos();
    await tasks.exec('hup', 'e', ['sleep', '1000'], { ...io.paths, terminal: true });
    await tasks.start('hup', 'e');
    const reader = io.read('stdout');
    const writer = io.write();
    await sleep(100);
    await writer.end();
    await sleep(300);
    expect(await tasks.state('hup', 'e')).toMatchObject({ status: 'RUNNING' });
    await tasks.closeStdin('hup', 'e');
    expect(await tasks.wait('hup', 'e')).toBe(129);
    await reader.end();
  });

  it('ends with its process, though a child of it still has it', async () => {
    await node.idle('child');
    const io = node.fifos();
    const script = 'trap "" HUP; sleep 1000 & seq 1 5000';
    await tasks.exec('child', 'e', shell(script), { ...io.paths, terminal: true });
    const reader = io.read('stdout');
    await tasks.start('child', 'e');
    const text = await reader.end();
    expect(text.split('\r\n').filter((line) => line !== '')).toHaveLength(5000);
    await tasks.delete('child', 'e');
  });

  it('leaves nothing where none can be made', async () => {
    await node.idle('none');
    const pid = shimPid('none');
    const open = descriptors(pid).length;
    const io = node.fifos();
    const process = { args: ['true'], cwd: '/', user: { uid: 0, gid: 0 }, terminal: false };
    await tasks.execSpec('none', 'without', process, { ...io.paths, terminal: true });
    await expect(tasks.start('none', 'without')).rejects.toThrow(/console socket/);
    await tasks.exec('none', 'missing', ['no-such-program'], { ...io.paths, terminal: true });
    await expect(tasks.start('none', 'missing')).rejects.toThrow(/OCI runtime exec failed.*no-such-program/);
    await tasks.exec('none', 'nowhere', ['true'], { stdout: '/nonexistent/fifo', terminal: true });
    await expect(tasks.start('none', 'nowhere')).rejects.toThrow(/opening \/nonexistent\/fifo failed/);
    for (const exec of ['without', 'missing', 'nowhere']) await tasks.delete('none', exec);
    expect(node.consoles('none')).toEqual([]);
    expect(descriptors(pid).length).toBe(open);

    await node.record('failing', ['no-such-program'], '-t');
    await expect(tasks.create('failing', { ...io.paths, terminal: true })).rejects.toThrow(/no-such-program/);
  });
});
