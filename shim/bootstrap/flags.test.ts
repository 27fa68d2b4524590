import { describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { parseFlags } from './flags.ts';

describe('parseFlags', () => {
  it('reads the launcher’s command line', () => {
    const args = [
      '-namespace',
      'k8s.io',
      '-id',
      '-x',
      '-address',
      '/c.sock',
      '-socket=/s',
      '-debug',
      'serve',
    ];
    expect(parseFlags(args)).toMatchObject({
      namespace: 'k8s.io',
      id: '-x',
      address: '/c.sock',
      socket: '/s',
      debug: true,
    });
    expect(parseFlags(['--namespace=ns', '-debug=false'])).toMatchObject({ namespace: 'ns', debug: false });
  });

  it.each([
    [['-nonsense', 'serve'], 'flag provided but not defined: -nonsense'],
    [['-id'], 'flag needs an argument: -id'],
    [['-namespace', 'ns', 'start'], 'Unknown action "start"'],
    [['-id', 'x', 'serve'], 'shim namespace cannot be empty'],
  ])('refuses %j', (args, message) => {
    expect(() => parseFlags(args)).toThrow(expect.objectContaining({ code: Code.invalidArgument, message }));
  });
});
