import { describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { stdioTargets } from './target.ts';

describe('stdioTargets', () => {
  it('takes paths for fifos and empty strings for nothing', () => {
    expect(stdioTargets({ stdin: '', stdout: '/f/out', stderr: 'fifo:///f/err' })).toEqual({
      stdin: { kind: 'none' },
      stdout: { kind: 'fifo', path: '/f/out' },
      stderr: { kind: 'fifo', path: '/f/err' },
    });
  });

  it('sends both streams to the file that stdout names', () => {
    const file = { kind: 'file', path: '/var/log/a b.log' };
    expect(stdioTargets({ stdin: '/in', stdout: 'file:///var/log/a%20b.log', stderr: '/ignored' })).toEqual({
      stdin: { kind: 'fifo', path: '/in' },
      stdout: file,
      stderr: file,
    });
  });

  it('refuses what it does not know', () => {
    const stdout = (uri: string) => () => stdioTargets({ stdin: '', stdout: uri, stderr: '' });
    expect(stdout('http://x/')).toThrow(
      expect.objectContaining({ code: Code.invalidArgument, message: 'unknown STDIO scheme http' }),
    );
    expect(stdout('binary:///bin/log')).toThrow(expect.objectContaining({ code: Code.unimplemented }));
    expect(stdout('file://')).toThrow(expect.objectContaining({ code: Code.invalidArgument }));
  });
});
