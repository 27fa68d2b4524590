import { describe, expect, it } from 'vitest';
import { type FakeMachine, fakeMachine } from './fake-machine.test-helper.ts';
import type { Finding } from './finding.ts';
import { checkGpu } from './gpu.ts';

const CONFIG = '/etc/containerd/config.toml';
const DUMP = `containerd --config ${CONFIG} config dump`;
/** As a node with an H100 has it. */
const version = (driver: string) =>
  `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  ${driver}  Release Build  (nixbld@)  \nGCC version:  gcc version 15.3.0 (GCC) \n`;
const closed =
  'NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue Jan  6 08:51:24 UTC 2026\nGCC version:  gcc version 13.3.0 (GCC) \n';
const LIBRARY = '/usr/lib/x86_64-linux-gnu/libcuda.so.1';
const answer = ({ driver = '580.159.04', mig = 0, persistence = 1, vgpu = 0, bytes = 85520809984 } = {}) =>
  `ready\t${LIBRARY}\t13000\nok\t${driver}\tGPU-5f8d3a2c-0a1b-2c3d-4e5f-60718293a4b5\t0\t${bytes}\t${mig}\t${persistence}\t${vgpu}\tNVIDIA H100 80GB HBM3\n`;
const cri = (settings: string) => `version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n${settings}\n`;
const DIRS = "enable_cdi = true\ncdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']";
const yaml = (driver: string) => `---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  mounts:
  - containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.${driver}
`;

const look = ({ files, programs, ...change }: FakeMachine = {}): Promise<Finding[]> =>
  checkGpu(
    fakeMachine({
      files: {
        '/proc/driver/nvidia/version': version('580.159.04'),
        '/proc/meminfo': 'MemTotal:       263744512 kB\n',
        '/var/run/cdi/nvidia.yaml': yaml('580.159.04'),
        ...files,
      },
      programs: { 'thaw-cuda --gpus': answer(), [DUMP]: cri(DIRS), ...programs },
      ...change,
    }),
    CONFIG,
  );

it('says nothing where there is no NVIDIA GPU', async () => {
  const other = { '/sys/bus/pci/devices/0000:00:02.0/vendor': '0x8086\n' };
  const sound = {
    '/sys/bus/pci/devices/0000:01:00.1/vendor': '0x10de\n',
    '/sys/bus/pci/devices/0000:01:00.1/class': '0x040300\n',
  };
  const files = { '/proc/driver/nvidia/version': undefined, ...other, ...sound };
  expect(await look({ files })).toEqual([]);
});

it.each([version('580.159.04'), closed])('finds nothing where all is right', async (text) => {
  expect(await look({ files: { '/proc/driver/nvidia/version': text } })).toEqual([
    { check: 'NVIDIA driver', status: 'ok', found: '580.159.04' },
    { check: 'CUDA driver library', status: 'ok', found: `${LIBRARY}, 580.159.04` },
    { check: 'GPU', status: 'ok', found: 'NVIDIA H100 80GB HBM3 (/dev/nvidia0)' },
    { check: 'CDI', status: 'ok', found: '/var/run/cdi/nvidia.yaml' },
  ]);
});

const driver = (number: string): FakeMachine => ({
  files: { '/proc/driver/nvidia/version': version(number), '/var/run/cdi/nvidia.yaml': yaml(number) },
  programs: { 'thaw-cuda --gpus': answer({ driver: number }) },
});
const gpus = (change: Parameters<typeof answer>[0]): FakeMachine => ({
  programs: { 'thaw-cuda --gpus': answer(change) },
});
const problem = 'libcuda.so.1: cannot open shared object file: No such file or directory';

describe('one thing that is wrong is the one that is named', () => {
  it.each<[Finding['status'], string, FakeMachine, RegExp]>([
    [
      'warning',
      'NVIDIA driver',
      {
        files: {
          '/proc/driver/nvidia/version': undefined,
          '/sys/bus/pci/devices/0000:01:00.0/vendor': '0x10de\n',
          '/sys/bus/pci/devices/0000:01:00.0/class': '0x030200\n',
        },
      },
      /is an NVIDIA GPU, and the driver is not loaded/,
    ],
    ['failed', 'NVIDIA driver', driver('550.90.07'), /cannot checkpoint a process/],
    ['warning', 'NVIDIA driver', driver('575.51.03'), /some of the node's GPUs/],
    ['warning', 'NVIDIA driver', driver('575.64.03'), /onto the GPUs of the checkpoint alone/],
    [
      'failed',
      'CUDA driver library',
      { programs: { 'thaw-cuda --gpus': { code: 1, stdout: `problem\t${problem}\n`, stderr: '' } } },
      /^libcuda\.so\.1: cannot open/,
    ],
    ['failed', 'CUDA driver library', { programs: { 'thaw-cuda --gpus': undefined } }, /no thaw-cuda/],
    [
      'failed',
      'CUDA driver library',
      {
        programs: {
          'thaw-cuda --gpus': { code: undefined, stdout: `ready\t${LIBRARY}\t13000\n`, stderr: '' },
        },
      },
      /was ended by it/,
    ],
    [
      'failed',
      'CUDA driver library',
      gpus({ driver: '580.95.05' }),
      /of driver 580.95.05, the kernel has 580.159/,
    ],
    ['warning', 'GPU', gpus({ mig: 1 }), /MIG.*: NVIDIA H100 80GB HBM3 \(\/dev\/nvidia0\)$/],
    ['warning', 'GPU', gpus({ vgpu: 1 }), /vGPU/],
    ['warning', 'GPU', gpus({ persistence: 0 }), /persistence mode is off/],
    ['warning', 'memory for GPU state', gpus({ bytes: 2 ** 40 }), /the node has 252 GiB, a GPU 1024 GiB/],
    ['warning', 'MPS', { files: { '/tmp/nvidia-mps/control': '' } }, /cannot save its clients/],
    ['warning', 'CDI', { programs: { [DUMP]: cri('enable_cdi = false') } }, /does not give devices by CDI/],
    [
      'warning',
      'CDI',
      { programs: { [DUMP]: 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nenable_cdi = false\n' } },
      /does not give devices by CDI/,
    ],
    [
      'warning',
      'CDI',
      { files: { '/var/run/cdi/nvidia.yaml': undefined, '/etc/cdi/other.json': '{"kind":"amd.com/gpu"}' } },
      /no specification for NVIDIA GPUs in \/etc\/cdi, \/var\/run\/cdi/,
    ],
    [
      'warning',
      'CDI',
      { files: { '/var/run/cdi/nvidia.yaml': yaml('580.95.05') } },
      /another driver than 580.159/,
    ],
  ])('%s: %s, %#', async (status, check, change, found) => {
    expect((await look(change)).filter((finding) => finding.status !== 'ok')).toEqual([
      { check, status, found: expect.stringMatching(found), mend: expect.stringMatching(/./) },
    ]);
  });

  it('and what is right is not', async () => {
    for (const files of [
      {
        '/var/run/cdi/nvidia.yaml': undefined,
        '/etc/cdi/gpu.json': '{"kind":"k8s.device-plugin.nvidia.com/gpu"}',
      },
      { '/tmp/nvidia-mps/log': '' },
    ])
      expect((await look({ files })).filter(({ status }) => status !== 'ok')).toEqual([]);
  });
});

it('asks the libraries that shims are told of', async () => {
  const env = (name: string) => (name === 'THAW_LIBCUDA' ? '/opt/libcuda.so.1' : undefined);
  const programs = {
    'thaw-cuda --gpus': undefined,
    'thaw-cuda --gpus --libcuda /opt/libcuda.so.1': answer(),
  };
  expect((await look({ env, programs })).filter(({ status }) => status !== 'ok')).toEqual([]);
});
