/** Streams of processes under our shim, with real clients: fifos, files, log drivers. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { privateDir, run, sleep, type TaskClient, until } from './lib/index.ts';
import { IMAGE, RUNTIME, type StreamNode, shell, useStreamNode } from './lib/stream-node.ts';

let node: StreamNode;
let tasks: TaskClient;
useStreamNode((given) => {
  node = given;
  tasks = given.tasks;
});
const ctr = (...args: string[]) => node.containerd.ctr(args, { allowFailure: true });

describe('fifos', () => {
  it('give no EPIPE when a client goes, and what was written meanwhile to the next', async () => {
    const io = node.fifos();
    await node.record(
      'loss',
      shell('read x; head -c 60000 /dev/zero | tr "\\0" x; echo; echo end; read y; echo bye'),
    );
    await tasks.create('loss', io.paths);
    await tasks.start('loss');
    const first = io.read('stdout');
    const writer = io.write();
    await first.vanish();
    writer.write('\n');
    await sleep(500);
    expect(await tasks.state('loss')).toMatchObject({ status: 'RUNNING' });
    const second = io.read('stdout');
    await second.until(/end\n/);
    expect(second.text.length).toBe(60_005);
    writer.write('\n');
    expect(await second.end()).toMatch(/bye\n$/);
    expect(await tasks.wait('loss')).toBe(0);
  });

  it('end the input only when the client closed it and said so', async () => {
    const io = node.fifos();
    await node.record('eof', shell('cat; echo over'));
    await tasks.create('eof', io.paths);
    await tasks.start('eof');
    const reader = io.read('stdout');
    const first = io.write();
    first.write('one\n');
    await reader.until(/one\n/);
    await first.end();
    await sleep(300);
    expect(reader.text).toBe('one\n');
    const second = io.write();
    second.write('two\n');
    await reader.until(/two\n/);
    await tasks.closeStdin('eof');
    second.write('three\n');
    await reader.until(/three\n/);
    await second.end();
    expect(await reader.end()).toBe('one\ntwo\nthree\nover\n');
    expect(await tasks.wait('eof')).toBe(0);
  });

  it('remember an end of input from before the start', async () => {
    await node.idle('early');
    const io = node.fifos();
    await tasks.exec('early', 'e', shell('cat; echo over'), io.paths);
    await tasks.closeStdin('early', 'e');
    const writer = io.write();
    const reader = io.read('stdout');
    await tasks.start('early', 'e');
    writer.write('in\n');
    await writer.end();
    expect(await reader.end()).toBe('in\nover\n');
    expect(await tasks.wait('early', 'e')).toBe(0);
  });

  it('carry a large input and output whole', async () => {
    const io = node.fifos();
    await node.record('large', shell('md5sum; head -c 20000000 /dev/zero'));
    await tasks.create('large', io.paths);
    await tasks.start('large');
    const reader = io.read('stdout');
    const writer = io.write();
    writer.write('0123456789abcdef\n'.repeat(1_000_000));
    await tasks.closeStdin('large');
    await writer.end();
    const text = await reader.end();
    expect(text.slice(0, 32)).toBe('2995fe0c3b0d2d89d9cb7c2d4a267b5b');
    expect(text.length).toBe(36 + 20_000_000);
  });

  it('hold up their own container alone when nobody reads', async () => {
    const [full, other] = [node.fifos(), node.fifos()];
    await node.idle('full');
    await tasks.exec('full', 'stuck', ['head', '-c', '10000000', '/dev/zero'], full.paths);
    await tasks.start('full', 'stuck');
    await sleep(300);
    expect(await tasks.state('full', 'stuck')).toMatchObject({ status: 'RUNNING' });
    await tasks.exec('full', 'free', ['head', '-c', '10000000', '/dev/zero'], other.paths);
    await tasks.start('full', 'free');
    expect((await other.read('stdout').end()).length).toBe(10_000_000);
    expect((await full.read('stdout').end()).length).toBe(10_000_000);
    expect(await tasks.wait('full', 'stuck')).toBe(0);
  });

  it('may be there for some of the streams only', async () => {
    const io = node.fifos();
    const { stderr } = io.paths;
    await node.record('some', shell('cat; echo out; echo err >&2'));
    await tasks.create('some', { stderr });
    const reader = io.read('stderr');
    await tasks.start('some');
    expect(await reader.end()).toBe('err\n');
    expect(await tasks.wait('some')).toBe(0);
  });

  it('must exist', async () => {
    await node.record('missing', ['true']);
    await expect(tasks.create('missing', { stdout: '/nonexistent/out' })).rejects.toThrow(
      /opening \/nonexistent\/out failed: no such file/,
    );
  });

  it('are waited for after the process only so long', async () => {
    await node.idle('drain');
    const io = node.fifos();
    await tasks.exec('drain', 'e', shell('sleep 1000 & echo bye'), io.paths);
    const reader = io.read('stdout');
    await tasks.start('drain', 'e');
    expect(await tasks.wait('drain', 'e')).toBe(0);
    // Long before the one that still has them ends.
    await tasks.delete('drain', 'e');
    expect(await reader.end()).toBe('bye\n');
  });

  it('lead to pipes of the user that the options name', async () => {
    const io = node.fifos();
    await node.record(
      'owned',
      shell('stat -Lc "%u %g" /proc/self/fd/1; echo reopened >/dev/stdout'),
      '--user',
      '1234:1234',
    );
    await tasks.create('owned', io.paths, { ioUid: 1234, ioGid: 1235 });
    const reader = io.read('stdout');
    await tasks.start('owned');
    expect(await reader.end()).toBe('1234 1235\nreopened\n');
  });
});

describe('file://', () => {
  it('appends both streams to one file and makes its folders', async () => {
    const file = join(privateDir('log'), 'a', 'b c', 'out.log');
    const uri = `file://${file.replace(' ', '%20')}`;
    for (const id of ['file-1', 'file-2']) {
      await node.record(id, shell('echo out; echo err >&2'));
      await tasks.create(id, { stdout: uri, stderr: uri });
      await tasks.start(id);
      await tasks.wait(id);
      await tasks.delete(id);
    }
    expect(readFileSync(file, 'utf8').split('\n').sort()).toEqual(['', 'err', 'err', 'out', 'out']);
    expect([statSync(file).mode & 0o777, statSync(join(file, '..')).mode & 0o777]).toEqual([0o644, 0o755]);
  });
});

describe('a disk that takes no writes', () => {
  it('holds up neither other streams nor exits', async () => {
    const dir = privateDir('disk');
    const [file, disk] = [join(dir, 'image'), join(dir, 'mounted')];
    mkdirSync(disk);
    await run('truncate', ['-s', '16M', file]);
    await run('mkfs.ext4', ['-q', file]);
    await run('mount', ['-o', 'loop', file, disk]);
    try {
      await node.idle('frozen');
      const uri = `file://${disk}/log`;
      await tasks.exec('frozen', 'stuck', shell('sleep 1; echo late'), { stdout: uri });
      await tasks.start('frozen', 'stuck');
      await run('fsfreeze', ['-f', disk]);
      try {
        expect(await tasks.wait('frozen', 'stuck')).toBe(0);
        const io = node.fifos();
        const reader = io.read('stdout');
        await tasks.exec('frozen', 'free', shell('echo free'), io.paths);
        await tasks.start('frozen', 'free');
        expect(await reader.end()).toBe('free\n');
        expect(await tasks.wait('frozen', 'free')).toBe(0);
      } finally {
        await run('fsfreeze', ['-u', disk]);
      }
      await until('the file to be written', () => readFileSync(`${disk}/log`, 'utf8') === 'late\n');
      await tasks.delete('frozen', 'stuck');
    } finally {
      await run('umount', [disk]);
    }
  });
});

describe('a log driver', () => {
  let dir: string;
  beforeEach(() => {
    dir = privateDir('driver');
  });
  const said = (name: string) => readFileSync(join(dir, name), 'utf8');

  /** URI of a driver that runs a script in `dir`. */
  function driver(script: string, { scheme = 'binary', query = '' } = {}): string {
    const file = join(dir, 'driver');
    writeFileSync(
      file,
      `#!/usr/bin/python3\nimport os, signal, sys, time\nos.chdir(${JSON.stringify(dir)})\n${script}\n`,
      {
        mode: 0o755,
      },
    );
    return `${scheme}://${file}${query}`;
  }
  const logAll = `
open('environment', 'w').write('\\n'.join(sorted(k + '=' + v for k, v in os.environ.items() if k != 'LC_CTYPE')))
open('arguments', 'w').write(' '.join(sys.argv[1:]))
fds = ' '.join(f for f in sorted(os.listdir('/proc/self/fd'), key=int) if os.path.exists('/proc/self/fd/' + f))
open('descriptors', 'w').write(fds)
os.write(5, b'1'); os.close(5)
if os.fork() == 0:
    open('out', 'wb').write(open(3, 'rb').read()); os._exit(0)
os.close(3)
open('err', 'wb').write(open(4, 'rb').read()); os.wait()
open('done', 'w').write('done')`;

  it('gets both streams whole, its arguments and its two variables, and nothing else', async () => {
    const uri = driver(logAll, { query: '?b=2&a=1%202&b=3' });
    await node.record('logged', shell('seq 1 100000; echo no >&2'));
    await tasks.create('logged', { stdout: uri, stderr: uri });
    await tasks.start('logged');
    expect(await tasks.wait('logged')).toBe(0);
    await tasks.delete('logged');
    expect(said('done')).toBe('done');
    expect(said('out')).toBe(`${Array.from({ length: 100_000 }, (_, i) => i + 1).join('\n')}\n`);
    expect(said('err')).toBe('no\n');
    expect(said('environment')).toBe('CONTAINER_ID=logged\nCONTAINER_NAMESPACE=default');
    expect(said('arguments')).toBe('b 2 a 1 2');
    // What the test node itself gives to everything that runs in it.
    const everybodys = readdirSync('/proc/1/fd').filter((fd) => Number(fd) > 200);
    const own = said('descriptors')
      .split(' ')
      .filter((fd) => !everybodys.includes(fd));
    expect(own).toEqual(['0', '1', '2', '3', '4', '5']);
  });

  it('gets the output of an exec, and of a terminal', async () => {
    await node.idle('execs');
    const uri = driver(logAll, { scheme: 'binary-v2' });
    await tasks.exec('execs', 'plain', shell('echo plain; echo err >&2'), { stdout: uri, stderr: uri });
    await tasks.start('execs', 'plain');
    await tasks.wait('execs', 'plain');
    await tasks.delete('execs', 'plain');
    expect([said('out'), said('err')]).toEqual(['plain\n', 'err\n']);
    expect(said('environment')).toContain('CONTAINER_ID=plain\n');
    await tasks.exec('execs', 'tty', shell('echo tty; echo err >&2'), { stdout: uri, terminal: true });
    await tasks.start('execs', 'tty');
    await tasks.wait('execs', 'tty');
    await tasks.delete('execs', 'tty');
    expect([said('out'), said('err')]).toEqual(['tty\r\nerr\r\n', '']);
  });

  it('is what ctr calls a log URI', async () => {
    const uri = driver(logAll);
    const ran = await ctr(
      'run',
      '-d',
      '--runtime',
      RUNTIME,
      '--log-uri',
      uri,
      IMAGE,
      'by-ctr',
      'echo',
      'hello',
    );
    expect(ran.stderr).toBe('');
    await tasks.wait('by-ctr');
    await ctr('task', 'rm', 'by-ctr');
    expect(said('out')).toBe('hello\n');
  });

  it('may die: the container goes on', async () => {
    const uri = driver("os.write(5, b'1'); sys.exit(3)");
    await node.record('orphan', shell('sleep 0.3; head -c 1000000 /dev/zero && exit 7'));
    await tasks.create('orphan', { stdout: uri, stderr: uri });
    await tasks.start('orphan');
    expect(await tasks.wait('orphan')).toBe(7);
    await until('the log line', () => /ended with exit status 3/.test(node.containerd.tail(400)));
  });

  it('is killed when it ignores that it should end, and others do not wait for that', async () => {
    const uri = driver(
      "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.write(5, b'1')\nwhile True: time.sleep(1)",
    );
    await node.record('stubborn', ['true']);
    await tasks.create('stubborn', { stdout: uri, stderr: uri });
    await tasks.start('stubborn');
    await tasks.wait('stubborn');
    let isDeleted = false;
    const deleting = tasks.delete('stubborn').then(() => {
      isDeleted = true;
    });
    await node.record('quick', ['true']);
    await tasks.create('quick', {});
    await tasks.start('quick');
    await tasks.wait('quick');
    await tasks.delete('quick');
    expect(isDeleted).toBe(false);
    await deleting;
  }, 60_000);

  it('fails the create when it is missing or does not say that it is ready', async () => {
    await node.record('refused', ['true']);
    const missing = `binary://${dir}/none`;
    await expect(tasks.create('refused', { stdout: missing, stderr: missing })).rejects.toThrow(
      /failed to start binary process/,
    );
    const silent = driver('sys.exit(0)', { scheme: 'binary-v2' });
    await expect(tasks.create('refused', { stdout: silent, stderr: silent })).rejects.toThrow(
      /did not say that it is ready/,
    );
    await expect(tasks.create('refused', { stdout: 'ftp://x', stderr: '' })).rejects.toThrow(
      /unknown STDIO scheme ftp/,
    );
  });
});
