import { expect, it } from 'vitest';
import { exitStatusOf } from '../../error.ts';
import { parseProbe } from './probe.ts';

it.each([
  ['http://localhost:8080/health?x=1', { kind: 'http', port: 8080, path: '/health?x=1' }],
  ['http://127.0.0.1', { kind: 'http', port: 80, path: '/' }],
  ['tcp://localhost:9000', { kind: 'tcp', port: 9000 }],
  ['exec:cat  /tmp/ready', { kind: 'exec', args: ['cat', '/tmp/ready'] }],
])('understands %s', (text, probe) => {
  expect(parseProbe(text)).toEqual(probe);
});

it.each([
  '',
  'exec:',
  'tcp://localhost',
  'http://10.0.0.1:80/',
  'https://localhost/',
  'localhost:80',
  'tcp://localhost:0',
])('refuses %j', (text) => {
  let error: unknown;
  try {
    parseProbe(text);
  } catch (caught) {
    error = caught;
  }
  expect(String(error)).toContain('use http://localhost:PORT/PATH');
  expect(exitStatusOf(error)).toBe(2);
});
