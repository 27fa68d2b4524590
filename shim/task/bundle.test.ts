import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Code } from '../../proto/status.ts';
import {
  addCriuConfig,
  bundlePaths,
  forgetOptions,
  readPid,
  readSpec,
  runcRoot,
  saveOptions,
  withAnnotation,
} from './bundle.ts';
import { defaultRuncOptions } from './options.ts';

let bundle: string;
beforeEach(async () => {
  bundle = await mkdtemp(join(tmpdir(), 'bundle-'));
});
afterEach(() => rm(bundle, { recursive: true }));

describe('withAnnotation', () => {
  it('keeps numbers that a double cannot hold', () => {
    const json =
      '{"process":{"rlimits":[{"hard":18446744073709551615,"soft":1024}]},"annotations":{"a":"b"}}';
    expect(withAnnotation(json, 'c', 'd')).toBe(
      '{"process":{"rlimits":[{"hard":18446744073709551615,"soft":1024}]},"annotations":{"a":"b","c":"d"}}',
    );
    expect(withAnnotation('{"annotations":null}', 'c', 'd')).toBe('{"annotations":{"c":"d"}}');
  });
});

describe('addCriuConfig', () => {
  it('gives a container a configuration file of its own', async () => {
    await writeFile(join(bundle, 'config.json'), '{"ociVersion":"1.2.0"}');
    const spec = readSpec(bundle);
    addCriuConfig(bundle, spec);
    const { criuConf } = bundlePaths(bundle);
    expect(readSpec(bundle).annotations).toEqual({ 'org.criu.config': criuConf });
    expect(spec.annotations).toEqual({ 'org.criu.config': criuConf });
    expect(await readFile(criuConf, 'utf8')).toBe('');
    expect((await stat(criuConf)).mode & 0o777).toBe(0o600);
  });

  it('replaces a file that the pod names', async () => {
    await writeFile(join(bundle, 'config.json'), '{"annotations":{"org.criu.config":"/evil.conf"}}');
    addCriuConfig(bundle, readSpec(bundle));
    expect(readSpec(bundle).annotations).toEqual({ 'org.criu.config': bundlePaths(bundle).criuConf });
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
