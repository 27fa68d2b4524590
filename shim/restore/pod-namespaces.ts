/**
 * Values of the pod's UTS and IPC namespaces. CRIU writes the checkpoint's into the namespaces it joins (seen with 4.2:
 * the whole new pod was renamed to the old one), so they are read before a restore and put back after it.
 */
import type { OciSpec } from '../task/oci-spec.ts';

const UTS_FILES = ['kernel/hostname', 'kernel/domainname'];
const IPC_FILES = [
  'kernel/sem',
  'kernel/msgmax',
  'kernel/msgmnb',
  'kernel/msgmni',
  'kernel/auto_msgmni',
  'kernel/shmmax',
  'kernel/shmall',
  'kernel/shmmni',
  'kernel/shm_rmid_forced',
  'fs/mqueue/queues_max',
  'fs/mqueue/msg_max',
  'fs/mqueue/msgsize_max',
  'fs/mqueue/msg_default',
  'fs/mqueue/msgsize_default',
];

export interface NamespaceFiles {
  /** Reads a file in a thread that has joined the namespaces; undefined if there is no such file. */
  read(path: string, namespaces: readonly string[]): string | undefined;
  write(path: string, value: string, namespaces: readonly string[]): void;
}

interface Value {
  file: string;
  namespace: string;
  value: string;
}

export interface SavedNamespaces {
  hostname: string | undefined;
  domainname: string | undefined;
  values: readonly Value[];
}

/** Only namespaces that the container shares with its pod: its own are made by the restore and end with it. */
export function saveNamespaces(spec: OciSpec, files: NamespaceFiles): SavedNamespaces {
  const values = [
    ...readAll(pathOf(spec, 'uts'), UTS_FILES, files),
    ...readAll(pathOf(spec, 'ipc'), IPC_FILES, files),
  ];
  const named = (file: string) => values.find((value) => value.file === file)?.value;
  return { hostname: named('kernel/hostname'), domainname: named('kernel/domainname'), values };
}

/** Writes back what differs; returns the files that had changed. */
export function restoreNamespaces(saved: SavedNamespaces, files: NamespaceFiles): string[] {
  const changed: string[] = [];
  for (const { file, namespace, value } of saved.values) {
    const path = `/proc/sys/${file}`;
    if (files.read(path, [namespace])?.trim() === value) continue;
    files.write(path, value, [namespace]);
    changed.push(file);
  }
  return changed;
}

function pathOf(spec: OciSpec, type: string): string | undefined {
  return spec.linux?.namespaces?.find((namespace) => namespace.type === type)?.path || undefined;
}

function readAll(namespace: string | undefined, names: readonly string[], files: NamespaceFiles): Value[] {
  if (!namespace) return [];
  return names.flatMap((file) => {
    const value = files.read(`/proc/sys/${file}`, [namespace])?.trim();
    return value === undefined ? [] : [{ file, namespace, value }];
  });
}
