import { describe, expect, test } from 'vitest';
import { credentialsFromDockerConfig } from './credentials.ts';

const config = JSON.stringify({
  auths: {
    'https://index.docker.io/v1/': { auth: Buffer.from('hub:pa:ss').toString('base64') },
    'registry.example:5000': { username: 'u', password: 'p' },
    'https://token.example/v2/': { identitytoken: 'refresh' },
    'empty.example': {},
  },
  credsStore: 'desktop',
});

describe('credentialsFromDockerConfig', () => {
  test('decodes auth; a password may contain a colon', () => {
    expect(credentialsFromDockerConfig(config, 'docker.io')).toEqual({
      kind: 'password',
      username: 'hub',
      password: 'pa:ss',
    });
  });

  test('takes a name and password in clear', () => {
    expect(credentialsFromDockerConfig(config, 'registry.example:5000')).toMatchObject({ username: 'u' });
  });

  test('finds keys that are written as an address', () => {
    expect(credentialsFromDockerConfig(config, 'token.example')).toEqual({
      kind: 'refresh-token',
      token: 'refresh',
    });
  });

  test('has none for other hosts, another port included', () => {
    expect(credentialsFromDockerConfig(config, 'registry.example')).toBeUndefined();
    expect(credentialsFromDockerConfig(config, 'empty.example')).toBeUndefined();
    expect(credentialsFromDockerConfig('{}', 'docker.io')).toBeUndefined();
  });

  test('never quotes the file in an error', () => {
    for (const text of ['{"auths":{"a":{"auth":"c2VjcmV0', '{"auths":{"a":{"auth":"c2VjcmV0"}}}', '[1]']) {
      try {
        credentialsFromDockerConfig(text, 'a');
        expect.unreachable();
      } catch (error) {
        expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toMatch(/c2Vj|secret/);
      }
    }
  });
});
