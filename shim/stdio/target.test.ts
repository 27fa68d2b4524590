import { describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { stdioTargets } from './target.ts';

const targets = (stdout: string, stderr = stdout, stdin = '') =>
  stdioTargets({ stdin, stdout, stderr, terminal: false });

describe('stdioTargets', () => {
  it('takes paths for fifos and empty strings for nothing', () => {
    expect(targets('/f/out', 'fifo:///f/err')).toEqual({
      stdin: { kind: 'none' },
      output: {
        kind: 'streams',
        stdout: { kind: 'fifo', path: '/f/out' },
        stderr: { kind: 'fifo', path: '/f/err' },
      },
    });
    expect(targets('', '/f/err').output).toMatchObject({ stdout: { kind: 'none' } });
  });

  it('sends both streams to the file that stdout names, and none where stderr is not wanted', () => {
    const file = { kind: 'file', path: '/var/log/a b.log' };
    expect(targets('file:///var/log/a%20b.log', '/whatever', '/in')).toEqual({
      stdin: { kind: 'fifo', path: '/in' },
      output: { kind: 'streams', stdout: file, stderr: file },
    });
    expect(targets('file:///l', '').output).toMatchObject({ stderr: { kind: 'none' } });
  });

  it('reads a driver and its arguments: the first value of each name, in order', () => {
    expect(targets('binary:///opt/log%20er?z=1&a=x%20y+z&z=2&empty').output).toEqual({
      kind: 'driver',
      path: '/opt/log er',
      args: ['z', '1', 'a', 'x y z', 'empty', ''],
      needsReady: false,
    });
    expect(targets('binary-v2:///bin/log').output).toMatchObject({
      path: '/bin/log',
      args: [],
      needsReady: true,
    });
  });

  it('refuses what it does not know', () => {
    const stdout = (uri: string) => () => targets(uri);
    expect(stdout('http://x/')).toThrow(
      expect.objectContaining({ code: Code.invalidArgument, message: 'unknown STDIO scheme http' }),
    );
    for (const uri of ['file://', 'binary://', 'binary:///%zz', 'file:///a%00b'])
      expect(stdout(uri), uri).toThrow(expect.objectContaining({ code: Code.invalidArgument }));
  });
});
