import { expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import { decodeResources } from './resources.ts';

const type = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources';
const any = (text: string, type_url = type) => ({ type_url, value: Buffer.from(text) });

it('passes resources on byte by byte', () => {
  const text = '{ "memory": {"limit": 9223372036854771712}, "x-unknown": 1 }';
  expect(Buffer.from(decodeResources(any(text))).toString()).toBe(text);
  expect(decodeResources(any('{}', 'opencontainers/runtime-spec/2/LinuxResources'))).toHaveLength(2);
});

it('refuses other types and what is no object', () => {
  const refused = expect.objectContaining({ code: Code.invalidArgument });
  for (const bad of [null, undefined, {}, any('{}', 'x/runtime-spec/1/LinuxResources')])
    expect(() => decodeResources(bad)).toThrow(refused);
  expect(() => decodeResources(any('{}', type.replace('Linux', 'Windows')))).toThrow(/WindowsResources/);
  for (const text of ['', '{', 'null', '[]', '7']) expect(() => decodeResources(any(text))).toThrow(refused);
});
