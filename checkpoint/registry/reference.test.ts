import { describe, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { CheckpointError } from '../error.ts';
import { apiHost, formatReference, isLoopback, parseReference } from './reference.ts';

const digest = digestOf('x');

describe('parseReference', () => {
  test.each([
    ['debian', 'docker.io/library/debian:latest'],
    ['debian:13', 'docker.io/library/debian:13'],
    ['team/model', 'docker.io/team/model:latest'],
    ['docker.io/debian', 'docker.io/library/debian:latest'],
    ['index.docker.io/debian', 'docker.io/library/debian:latest'],
    ['localhost/a', 'localhost/a:latest'],
    ['localhost:5000/a/b:v1', 'localhost:5000/a/b:v1'],
    ['127.0.0.1:5000/a', '127.0.0.1:5000/a:latest'],
    ['[::1]:5000/a', '[::1]:5000/a:latest'],
    ['registry.example/a__b/c-d.e:V_1', 'registry.example/a__b/c-d.e:V_1'],
    [`registry.example/a@${digest}`, `registry.example/a@${digest}`],
    [`registry.example:443/a:t@${digest}`, `registry.example:443/a:t@${digest}`],
  ])('%s is %s', (text, full) => {
    expect(formatReference(parseReference(text))).toBe(full);
    expect(formatReference(parseReference(full))).toBe(full);
  });

  test.each([
    '',
    ':tag',
    'a/',
    '/a',
    'registry.example/',
    'registry.example/A',
    'registry.example/a/../b',
    'registry.example/a//b',
    'registry.example/a:',
    'registry.example/a:b:c',
    'registry.example/a@sha256:00',
    `registry.example/a@${digest}@${digest}`,
    'https://registry.example/a',
    'user@registry.example/a',
    'registry.example:99999999/a',
    'registry.example/a?b',
    'registry.example/a b',
    `registry.example/${'a'.repeat(300)}`,
  ])('refuses %j', (text) => {
    expect(() => parseReference(text)).toThrow(CheckpointError);
  });
});

test('docker.io is served by another host', () => {
  expect(apiHost('docker.io')).toBe('registry-1.docker.io');
  expect(apiHost('registry.example:5000')).toBe('registry.example:5000');
});

test.each([
  ['localhost', true],
  ['localhost:5000', true],
  ['a.localhost', true],
  ['127.0.0.1:5000', true],
  ['127.8.9.1', true],
  ['[::1]:5000', true],
  ['localhost.example', false],
  ['127.0.0.1.example', false],
  ['10.0.0.1:5000', false],
  ['notlocalhost', false],
])('%s is this machine: %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});
