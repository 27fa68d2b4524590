/** A node on which everything is right, for tests that break one thing. */
import type { ContainerdView, Machine, Ran } from './machine.ts';

export const FILES: Readonly<Record<string, string>> = {
  '/proc/filesystems': 'nodev\toverlay\n\text4\n\terofs\n',
  '/dev/fuse': '',
  '/dev/loop-control': '',
  '/proc/sys/kernel/ns_last_pid': '1',
  '/proc/sys/vm/unprivileged_userfaultfd': '0',
  '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
  '/etc/containerd/config.toml': '',
};

export const PROGRAMS: Readonly<Record<string, string>> = {
  'criu --version': 'Version: 4.2\n',
  'criu check': 'Looks good.\n',
  'runc --version': 'runc version 1.3.6\ncommit: x\n',
  'thaw-snapshotter --check': JSON.stringify({
    root: '/var/lib/thaw',
    state: '/run/thaw',
    address: '/run/thaw/snapshotter.sock',
  }),
};

export interface FakeMachine extends Partial<Omit<Machine, 'containerd'>> {
  files?: Record<string, string | undefined>;
  /** Output of a command line; undefined for a program that is not there, what it failed with as Ran. */
  programs?: Record<string, string | Ran | undefined>;
  view?: Partial<ContainerdView>;
}

export function fakeMachine({ files, programs, view, ...change }: FakeMachine = {}): Machine {
  const here: Record<string, string | undefined> = { ...FILES, ...files };
  const known: Record<string, string | Ran | undefined> = { ...PROGRAMS, ...programs };
  return {
    kernel: '6.18.44',
    readText: async (path) => here[path],
    exists: async (path) => here[path] !== undefined,
    list: async (path) => namesIn(here, path),
    env: () => undefined,
    async run(program, args) {
      const answer = known[[program, ...args].join(' ')];
      return typeof answer === 'string' ? { code: 0, stdout: answer, stderr: '' } : answer;
    },
    which: async (program) => `/usr/local/bin/${program}`,
    diskSpace: async () => ({
      totalBytes: 1000n << 30n,
      freeBytes: 500n << 30n,
      totalInodes: 100n,
      freeInodes: 50n,
    }),
    tryOverlay: async () => undefined,
    dial: async () => {},
    checkpoints: async () => [],
    containerd: {
      version: async () => '2.1.9',
      trySnapshotter: async () => {},
      images: async () => [],
      containers: async () => [],
      ...view,
    },
    ...change,
  };
}

/** Names of files and folders right below a path. */
function namesIn(files: Readonly<Record<string, string | undefined>>, path: string): string[] {
  const inside = Object.keys(files).filter(
    (file) => files[file] !== undefined && file.startsWith(`${path}/`),
  );
  return [...new Set(inside.map((file) => file.slice(path.length + 1).split('/')[0] ?? ''))];
}
