import { expect, test } from 'vitest';
import { type AuthConfig, credentialsOf } from './auth-config.ts';

const none: AuthConfig = { username: '', password: '', auth: '', serverAddress: '', identityToken: '' };
const of = (config: Partial<AuthConfig>, registry = 'r.example:5000') =>
  credentialsOf({ ...none, ...config }, registry);
const base64 = (text: string) => Buffer.from(text).toString('base64');

test('a name and a password, a token, or both in one', () => {
  const password = { kind: 'password', username: 'me', password: 'a:b' };
  expect(of({ username: 'me', password: 'a:b', identityToken: 't' })).toEqual(password);
  expect(of({ auth: base64('me:a:b') })).toEqual(password);
  expect(of({ auth: base64('me:a:b\0\0') })).toEqual(password);
  expect(of({ identityToken: 't', auth: base64('x:y') })).toEqual({ kind: 'refresh-token', token: 't' });
});

test('nothing is nothing, and so is what is no name and password', () => {
  expect(of({})).toBeUndefined();
  expect(of({ auth: base64('nobody') })).toBeUndefined();
  expect(of({ auth: '%%' })).toBeUndefined();
});

test('those for another registry are not for this one', () => {
  const login = { username: 'me', password: 'p' };
  for (const serverAddress of ['r.example:5000', 'https://r.example:5000', 'https://r.example:5000/v2/'])
    expect(of({ ...login, serverAddress })).toBeDefined();
  for (const serverAddress of ['r.example', 'https://other.example:5000', 'r.example:5000.evil.example'])
    expect(of({ ...login, serverAddress })).toBeUndefined();
  expect(of({ ...login, serverAddress: 'https://index.docker.io/v1/' }, 'docker.io')).toBeDefined();
  expect(of({ ...login, serverAddress: 'https://index.docker.io/v1/' })).toBeUndefined();
});
