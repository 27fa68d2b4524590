import { digestOf } from './digest.ts';
import type { CheckpointFacts } from './facts.ts';

/** Facts of an invented checkpoint with this many checkpoint layers. */
export function sampleFacts(checkpointLayers: number): CheckpointFacts {
  return {
    formatVersion: 1,
    created: '2026-01-02T03:04:05Z',
    launch: {
      args: ['/server'],
      cwd: '/',
      uid: 0,
      gid: 0,
      additionalGids: [],
      env: ['PATH=/usr/bin'],
    },
    host: { arch: 'amd64', kernel: '6.18.0', cpuFlags: ['avx2'], criu: '4.2', runc: '1.3.0', cgroup: 'v2' },
    mounts: [{ destination: '/proc', type: 'proc', readOnly: false }],
    image: { reference: 'registry.example/server:1', configDigest: digestOf('config') },
    layers: {
      checkpoint: checkpointLayers,
      base: [
        {
          digest: digestOf('base'),
          diffId: digestOf('base tar'),
          mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
          size: 10,
        },
      ],
      diff: null,
    },
    processes: [{ pid: 1, ppid: 0, comm: 'server', threads: 3 }],
    memoryBytes: 4096,
    annotations: { 'org.criu.checkpoint.engine.name': 'containerd' },
  };
}
