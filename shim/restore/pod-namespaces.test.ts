import { expect, it } from 'vitest';
import { type NamespaceFiles, restoreNamespaces, saveNamespaces } from './pod-namespaces.ts';

const spec = {
  linux: {
    namespaces: [{ type: 'pid' }, { type: 'uts', path: '/ns/uts' }, { type: 'ipc', path: '/ns/ipc' }],
  },
};

function memoryFiles(content: Record<string, string>): NamespaceFiles {
  return {
    read: (path, [namespace]) => content[`${namespace}:${path}`],
    write: (path, value, [namespace]) => {
      content[`${namespace}:${path}`] = value;
    },
  };
}

it('puts back only what a restore changed', () => {
  const content: Record<string, string> = {
    '/ns/uts:/proc/sys/kernel/hostname': 'new-pod\n',
    '/ns/uts:/proc/sys/kernel/domainname': '(none)\n',
    '/ns/ipc:/proc/sys/kernel/shmmni': '4096\n',
  };
  const files = memoryFiles(content);
  const saved = saveNamespaces(spec, files);
  expect(saved.hostname).toBe('new-pod');
  content['/ns/uts:/proc/sys/kernel/hostname'] = 'old-pod\n';
  expect(restoreNamespaces(saved, files)).toEqual(['kernel/hostname']);
  expect(content['/ns/uts:/proc/sys/kernel/hostname']).toBe('new-pod');
  expect(restoreNamespaces(saved, files)).toEqual([]);
});

it('leaves alone namespaces that the restore makes itself', () => {
  const files = memoryFiles({});
  expect(saveNamespaces({ linux: { namespaces: [{ type: 'uts' }] } }, files).values).toEqual([]);
  expect(saveNamespaces({}, files).values).toEqual([]);
});
