import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import {
  bundlePaths,
  completeConfig,
  editJson,
  forgetOptions,
  readPid,
  readSpec,
  runcRoot,
  saveOptions,
} from './bundle.ts';
import { defaultRuncOptions } from './options.ts';

let bundle: string;
beforeEach(async () => {
  bundle = await mkdtemp(join(tmpdir(), 'bundle-'));
});
afterEach(() => rm(bundle, { recursive: true }));

it('a config.json that is changed keeps numbers that a double cannot hold', () => {
  const json = '{"process":{"rlimits":[{"hard":18446744073709551615,"soft":1024}]},"annotations":{"a":"b"}}';
  const changed = editJson(json, (spec) => {
    spec.hostname = 'c';
  });
  expect(changed).toBe(`${json.slice(0, -1)},"hostname":"c"}`);
});

describe('completeConfig', () => {
  it('gives a container a configuration file of its own', async () => {
    await writeFile(join(bundle, 'config.json'), '{"ociVersion":"1.2.0"}');
    const spec = readSpec(bundle);
    completeConfig(bundle, spec, undefined);
    const { criuConf } = bundlePaths(bundle);
    expect(readSpec(bundle).annotations).toEqual({ 'org.criu.config': criuConf });
    expect(spec.annotations).toEqual({ 'org.criu.config': criuConf });
    expect(await readFile(criuConf, 'utf8')).toBe('');
    expect((await stat(criuConf)).mode & 0o777).toBe(0o600);
  });

  it('replaces a file that the pod names', async () => {
    await writeFile(join(bundle, 'config.json'), '{"annotations":{"org.criu.config":"/evil.conf"}}');
    completeConfig(bundle, readSpec(bundle), undefined);
    expect(readSpec(bundle).annotations).toEqual({ 'org.criu.config': bundlePaths(bundle).criuConf });
  });

  it('adds a profile to what else is there', async () => {
    await writeFile(join(bundle, 'config.json'), '{"annotations":null,"linux":{"cgroupsPath":"/a"}}');
    const spec = readSpec(bundle);
    completeConfig(bundle, spec, { defaultAction: 'x' });
    expect(spec.linux).toEqual({ cgroupsPath: '/a', seccomp: { defaultAction: 'x' } });
    expect(readSpec(bundle)).toEqual(spec);
  });
});

describe('options of a bundle', () => {
  it('are there for delete while there is a container', async () => {
    const options = { ...defaultRuncOptions, binaryName: 'crun', root: '/r', systemdCgroup: true };
    saveOptions(bundle, options);
    const saved = JSON.parse(await readFile(bundlePaths(bundle).options, 'utf8'));
    expect(saved).toEqual({ binary_name: 'crun', root: '/r', systemd_cgroup: true });
    expect(await readFile(join(bundle, 'runtime'), 'utf8')).toBe('crun');
    for (let n = 0; n < 2; n += 1) forgetOptions(bundle);
    expect(await readdir(bundle)).toEqual(['runtime']);
  });
});

describe('other files', () => {
  it('of runc lie apart for each namespace', () => {
    expect(runcRoot({ root: '' }, 'k8s.io')).toBe('/run/containerd/runc/k8s.io');
    expect(runcRoot({ root: '/r' }, 'k8s.io')).toBe('/r/k8s.io');
  });

  it('that are missing or no pid are errors', async () => {
    expect(() => readSpec(bundle)).toThrow(expect.objectContaining({ code: Code.invalidArgument }));
    await writeFile(join(bundle, 'pid'), 'x');
    expect(() => readPid(join(bundle, 'pid'))).toThrow(expect.objectContaining({ code: Code.internal }));
  });
});
