import { describe, expect, test } from 'vitest';
import { credentialsIn, helperFor, parseDockerConfig } from './docker-config.ts';

const auth = (text: string) => ({ auth: Buffer.from(text).toString('base64') });
const config = parseDockerConfig(
  JSON.stringify({
    auths: {
      'https://index.docker.io/v1/': auth('hub:pa:ss'),
      'registry.example:5000': { username: 'u', password: 'p' },
      'https://token.example/v2/': { identitytoken: 'refresh' },
      'empty.example': {},
      'shared.example': auth('all:1'),
      'shared.example/team': auth('team:2'),
      '*.cloud.example': auth('any:3'),
      'eu*w.cloud.example': auth('west:4'),
      'eu-west-w.cloud.example': auth('own:5'),
    },
  }),
);
const names = (registry: string, repository = 'a/b') =>
  credentialsIn(config, registry, repository).map((each) =>
    each.kind === 'password' ? each.username : each.token,
  );

describe('credentials in a docker config', () => {
  test('auth is decoded; a password may contain a colon', () => {
    expect(credentialsIn(config, 'docker.io', 'library/debian')).toEqual([
      { kind: 'password', username: 'hub', password: 'pa:ss' },
    ]);
  });

  test('a name and password may be in clear', () => {
    expect(names('registry.example:5000')).toEqual(['u']);
  });

  test('keys that are written as an address are found', () => {
    expect(credentialsIn(config, 'token.example', 'a')).toEqual([
      { kind: 'refresh-token', token: 'refresh' },
    ]);
  });

  test('there are none for other hosts, another port included', () => {
    for (const host of ['registry.example', 'empty.example', 'cloud.example', 'a.b.cloud.example'])
      expect(names(host)).toEqual([]);
    expect(credentialsIn(parseDockerConfig('{}'), 'docker.io', 'a')).toEqual([]);
  });

  test('a path is for the repositories below it, and goes first', () => {
    expect(names('shared.example', 'team/app')).toEqual(['team', 'all']);
    expect(names('shared.example', 'team')).toEqual(['team', 'all']);
    expect(names('shared.example', 'teams/app')).toEqual(['all']);
  });

  test('a pattern matches label by label, and goes last', () => {
    expect(names('eu-west-w.cloud.example')).toEqual(['own', 'any', 'west']);
    expect(names('us.cloud.example')).toEqual(['any']);
    expect(names('euw.cloud.example')).toEqual(['any', 'west']);
    expect(names('eu.cloud.example')).toEqual(['any']);
  });

  test('a .dockercfg is one of auths alone', () => {
    const old = parseDockerConfig(JSON.stringify({ 'r.example': { ...auth('me:x'), email: 'a@b' } }));
    expect(credentialsIn(old, 'r.example', 'a')).toMatchObject([{ username: 'me' }]);
  });

  test('the helper of a registry wins over that of all; an empty one stands for none', () => {
    const { auths } = config;
    const helpers = { auths, credHelpers: { 'r.example': 'ecr', 'none.example': '' }, credsStore: 'pass' };
    expect(helperFor(helpers, 'r.example')).toBe('ecr');
    expect(helperFor(helpers, 'none.example')).toBeUndefined();
    expect(helperFor(helpers, 'other.example')).toBe('pass');
    expect(helperFor(config, 'r.example')).toBeUndefined();
  });

  test.each([
    '{"auths":{"a":{"auth":"c2VjcmV0',
    '{"auths":{"a":{"auth":"c2VjcmV0"}}}',
    '["secret"]',
    '{"credsStore":"../secret"}',
    '{"credHelpers":{"a":"x secret"}}',
  ])('%j is refused, and never quoted', (text) => {
    let caught: unknown;
    try {
      credentialsIn(parseDockerConfig(text), 'a', 'b');
    } catch (error) {
      caught = error;
    }
    expect(caught).toMatchObject({ message: 'it is no docker config.json' });
    expect(JSON.stringify(caught, Object.getOwnPropertyNames(caught))).not.toMatch(/c2Vj|secret/);
  });
});
