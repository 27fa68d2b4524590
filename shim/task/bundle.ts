/**
 * Files of an OCI bundle that the shim reads and writes. Not through promises: they are small and in memory (containerd's
 * state lies below /run), and an ordinary container then never starts the threads that Node has for files.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../proto/status.ts';
import { ShimError } from '../error.ts';
import type { OciSpec } from './oci-spec.ts';
import type { RuncOptions } from './options.ts';

/** runc hands the file that this annotation names to CRIU, at dump and at restore. */
export const CRIU_CONFIG_ANNOTATION = 'org.criu.config';

export function bundlePaths(bundle: string) {
  return {
    config: join(bundle, 'config.json'),
    rootfs: join(bundle, 'rootfs'),
    initPid: join(bundle, 'init.pid'),
    log: join(bundle, 'log.json'),
    options: join(bundle, 'options.json'),
    /** containerd 1.6 reads the runtime's binary from it before it runs `delete`. */
    runtime: join(bundle, 'runtime'),
    criuConf: join(bundle, 'criu.conf'),
    work: join(bundle, 'work'),
    /** Mounts for a moment; `delete` unmounts what a killed shim leaves below `work`. */
    layers: join(bundle, 'work/layers'),
  };
}

export function readSpec(bundle: string): OciSpec {
  const { config } = bundlePaths(bundle);
  try {
    return JSON.parse(readFileSync(config, 'utf8')) as OciSpec;
  } catch (cause) {
    throw new ShimError(Code.invalidArgument, `Cannot read the bundle's "${config}"`, { cause });
  }
}

/**
 * Gives the container a CRIU configuration file of its own, empty for now, and a seccomp profile where it comes without one.
 * runc saves the annotation that names the file with the container at `runc create`, so it must be there before. A file that
 * the pod names is replaced: CRIU runs as root, and its configuration can have it run any program.
 */
export function completeConfig(bundle: string, spec: OciSpec, seccomp: object | undefined): void {
  const { config, criuConf } = bundlePaths(bundle);
  writeFileSync(criuConf, '', { mode: 0o600 });
  const complete = (edited: OciSpec) => {
    edited.annotations = { ...edited.annotations, [CRIU_CONFIG_ANNOTATION]: criuConf };
    if (seccomp) edited.linux = { ...edited.linux, seccomp };
  };
  writeConfig(bundle, editJson(readFileSync(config, 'utf8'), complete));
  complete(spec);
}

/** All of the new text, or all of the old. */
export function writeConfig(bundle: string, text: string): void {
  const { config } = bundlePaths(bundle);
  writeFileSync(`${config}.new`, text, { mode: 0o600 });
  renameSync(`${config}.new`, config);
}

/** A config.json, changed. Numbers beyond 2^53 (rlimits are unsigned 64-bit) stay as they were written. */
export function editJson(configJson: string, edit: (spec: OciSpec) => void): string {
  // Looking at every value takes a parse several times as long.
  const reviver = /\d{16}/.test(configJson) ? keepNumbers : undefined;
  const spec: OciSpec = JSON.parse(configJson, reviver);
  edit(spec);
  return JSON.stringify(spec);
}

/** The process of a bundle's config.json with another command line and no terminal, for `runc exec --process`. */
export function processJson(configJson: string, args: readonly string[]): string {
  const { process }: { process?: object } = JSON.parse(configJson, keepNumbers);
  return JSON.stringify({ ...process, args, terminal: false });
}

/** ECMAScript's JSON.parse source text access, which TypeScript's library does not have yet. */
interface JsonWithRaw {
  rawJSON(text: string): unknown;
}

function keepNumbers(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value) || context?.source === undefined) return value;
  return (JSON as unknown as JsonWithRaw).rawJSON(context.source);
}

/**
 * Leaves for `delete` (native/launcher/remove.cc), which runs in a process of its own, what it needs to find the container
 * again.
 */
export function saveOptions(bundle: string, options: RuncOptions): void {
  const paths = bundlePaths(bundle);
  const { binaryName, root, systemdCgroup } = options;
  // The names that containerd's own shim writes.
  const saved = { binary_name: binaryName, root, systemd_cgroup: systemdCgroup };
  writeFileSync(paths.options, JSON.stringify(saved), { mode: 0o600 });
  writeFileSync(paths.runtime, binaryName, { mode: 0o600 });
}

/** At once and without a pause. Tells `delete` that nothing of the container is left: it need not search the machine for what a killed shim leaves. */
export function forgetOptions(bundle: string): void {
  rmSync(bundlePaths(bundle).options, { force: true });
}

const DEFAULT_ROOT = '/run/containerd/runc';

export function runcRoot(options: Pick<RuncOptions, 'root'>, namespace: string): string {
  return join(options.root || DEFAULT_ROOT, namespace);
}

export function readPid(file: string): number {
  const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
  if (!Number.isInteger(pid) || pid <= 0)
    throw new ShimError(Code.internal, `Cannot find a pid in "${file}"`);
  return pid;
}
