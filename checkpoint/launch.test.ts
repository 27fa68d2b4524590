import { describe, expect, it } from 'vitest';
import { launchOf } from './launch.ts';

const spec = {
  process: {
    args: ['python3', '/server.py'],
    cwd: '/srv',
    user: { uid: 1000, gid: 100, additionalGids: [30, 20, 20] },
    env: ['PATH=/bin', 'MODEL=a', 'HOSTNAME=pod-1'],
  },
};

describe('launchOf', () => {
  it('sorts what has no order and leaves out what the platform sets', () => {
    expect(launchOf(spec)).toEqual({
      args: ['python3', '/server.py'],
      cwd: '/srv',
      uid: 1000,
      gid: 100,
      additionalGids: [20, 30],
      env: ['MODEL=a', 'PATH=/bin'],
    });
  });

  it('tells variables whose value is the name or the uid of the pod', () => {
    const annotations = {
      'io.kubernetes.cri.sandbox-name': 'llm-0',
      'io.kubernetes.cri.sandbox-uid': 'b0c1',
      'io.kubernetes.cri.sandbox-namespace': 'models',
    };
    const env = ['POD_NAME=llm-0', 'POD_UID=b0c1', 'POD_NAMESPACE=models', 'URL=http://llm-0', 'X', 'Y='];
    const ofPod = [
      { variable: 'POD_NAME', field: 'metadata.name' },
      { variable: 'POD_UID', field: 'metadata.uid' },
    ];
    expect(launchOf({ annotations, hostname: 'other', process: { env } }).ofPod).toEqual(ofPod);
    expect(launchOf({ hostname: 'llm-0', process: { env } }).ofPod).toEqual(ofPod.slice(0, 1));
    expect(launchOf({ process: { env } }).ofPod).toBeUndefined();
    expect(launchOf({ hostname: '', process: { env } }).ofPod).toBeUndefined();
  });

  const platform = [
    'HOSTNAME=x',
    'KUBERNETES_SERVICE_HOST=10.0.0.1',
    'KUBERNETES_PORT_443_TCP_ADDR=10.0.0.1',
    'REDIS_SERVICE_HOST=10.0.0.2',
    'REDIS_SERVICE_PORT=6379',
    'REDIS_SERVICE_PORT_HTTP=80',
    'REDIS_PORT=tcp://10.0.0.2:6379',
    'REDIS_PORT_6379_TCP=tcp://10.0.0.2:6379',
    'REDIS_PORT_6379_TCP_PROTO=tcp',
    'REDIS_PORT_6379_TCP_ADDR=10.0.0.2',
    'REDIS_PORT_6379_TCP_PORT=6379',
    'KUBERNETES_PORT_443_TCP_PORT=443',
  ];
  it.each(platform)('%s is set by the platform', (variable) => {
    expect(launchOf({ process: { env: [variable] } }).env).toEqual([]);
  });

  it.each(['SERVER_PORT=8080', 'PORT=80', 'HOSTNAMES=a', 'MY_KUBERNETES_X=1', 'A_PORT_1_TCP=80'])(
    '%s is the user’s own',
    (variable) => {
      expect(launchOf({ process: { env: [variable] } }).env).toEqual([variable]);
    },
  );
});
