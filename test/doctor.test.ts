/** `thaw doctor` on a node where all is right, and where something is not. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Finding } from '../cli/doctor/finding.ts';
import { KubeletNode } from './lib/kubelet-node.ts';

const command = ['/bin/sh', '-c', 'echo up; while :; do sleep 0.1; done'];

let node: KubeletNode;

beforeAll(async () => {
  node = await KubeletNode.start();
});
afterAll(() => node.stop());

async function doctor(): Promise<{ code: number; findings: Finding[]; bad: Finding[]; stderr: string }> {
  const files = ['--config', node.config, '--containerd-config', node.containerd.config];
  const done = await node.thaw(['doctor', '--json', ...files], { allowFailure: true });
  const { ok, findings } = JSON.parse(done.stdout) as { ok: boolean; findings: Finding[] };
  expect(ok).toBe(done.code === 0);
  // How much room the machine has that the tests run on is its own matter.
  const bad = findings.filter(({ check, status }) => status !== 'ok' && check !== 'disk space');
  return { code: done.code, findings, bad, stderr: done.stderr };
}

it('finds nothing in the way, having looked at everything, and leaves nothing', async () => {
  const { code, findings, bad } = await doctor();
  expect(bad).toEqual([]);
  expect(code).toBe(0);
  const found = Object.fromEntries(findings.map((finding) => [finding.check, finding.found]));
  expect(found).toMatchObject({
    'configuration of thaw-snapshotter': `root ${node.root}, sockets in /run/thaw`,
    'containerd configuration': 'plug-in thaw, handlers thaw',
    'snapshotter in containerd': 'thaw answers',
    'file system': `overlay works on ${node.root}`,
    CRIU: expect.stringMatching(/^4\..*finds nothing missing/),
    shim: expect.stringMatching(/containerd-shim-thaw-v2$/),
  });
  const { stdout } = await node.containerd.ctr(['-n', 'k8s.io', 'snapshots', '--snapshotter', 'thaw', 'ls']);
  expect(stdout).not.toContain('thaw-doctor');
});

it('names a daemon that is not there, once for itself and once as containerd sees it', async () => {
  await node.stopSnapshotter();
  try {
    const { code, bad, stderr } = await doctor();
    expect(code).toBe(1);
    expect(stderr).toBe('thaw: 2 checks failed\n');
    expect(bad).toMatchObject([
      {
        check: 'thaw-snapshotter',
        status: 'failed',
        found: expect.stringContaining('/run/thaw/snapshotter.sock'),
      },
      { check: 'snapshotter in containerd', status: 'failed' },
    ]);
    expect(bad[0]?.mend).toContain('systemctl start thaw-snapshotter');
  } finally {
    await node.startSnapshotter();
  }
});

it('names a setting of containerd and a key of ours that are wrong', async () => {
  const [theirs, ours] = [node.containerd.config, node.config].map((file) => readFileSync(file, 'utf8'));
  const words = 'disable_snapshot_annotations = ';
  writeFileSync(node.containerd.config, theirs?.replace(`${words}false`, `${words}true`) ?? '');
  writeFileSync(node.config, `conections = 3\n${ours}`);
  try {
    const { code, bad } = await doctor();
    expect(code).toBe(1);
    expect(bad.map(({ found }) => found)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/unknown key "conections" \(did you mean "fetch.connections"\?\)/),
        expect.stringMatching(/disable_snapshot_annotations is true/),
      ]),
    );
  } finally {
    writeFileSync(node.containerd.config, theirs ?? '');
    writeFileSync(node.config, ours ?? '');
  }
});

it('names a checkpoint image that came here under overlayfs; a pod on it runs all the same', async () => {
  const cold = await node.pushImage('test/doctor', [], command);
  const source = await node.runPod({ image: cold, command });
  const warm = await node.checkpoint(source, 'test/doctor');
  await node.removePod(source);
  await node.forget(warm);
  await node.forget(cold);
  const local = node.containerd.version === '2' ? ['--local'] : [];
  const pull = ['images', 'pull', '--plain-http', ...local, '--snapshotter', 'overlayfs', warm];
  await node.containerd.ctr(['-n', 'k8s.io', ...pull], { timeoutMs: 120_000 });
  const { code, bad } = await doctor();
  expect(code).toBe(0);
  expect(bad).toMatchObject([
    { check: 'image', found: expect.stringMatching(`${warm} is unpacked under overlayfs`) },
  ]);

  const pod = await node.runPod({ image: warm, command });
  expect(await node.exec(pod, 'echo', 'here')).toBe('here\n');
  expect(await node.startOf(pod)).toContain('"restored"');
  // containerd unpacked it for the pod.
  expect((await doctor()).bad).toEqual([]);
  await node.removePod(pod);
});
