/**
 * Whether the state of GPUs can be saved and restored here; nothing is said where there is no NVIDIA GPU. What the kernel's
 * half of the driver says is in /proc/driver/nvidia; what its library says, thaw-cuda tells, which makes no CUDA context.
 */
import { checkCdi } from './cdi.ts';
import { type Finding, failed, ok, warning } from './finding.ts';
import { type GpuAnswer, parseGpuAnswer } from './gpu-answer.ts';
import type { Machine } from './machine.ts';
import { isAtLeast } from './version.ts';

const DRIVER = 'NVIDIA driver';
const LIBRARY = 'CUDA driver library';
const UPDATE = 'update the NVIDIA driver to 580 or later';
/** Where nvidia-cuda-mps-control listens, unless CUDA_MPS_PIPE_DIRECTORY says otherwise; the device plug-in's is the second. */
const MPS = ['/tmp/nvidia-mps/control', '/run/nvidia/mps/control'];

export async function checkGpu(machine: Machine, containerdConfig: string): Promise<Finding[]> {
  const text = await machine.readText('/proc/driver/nvidia/version');
  if (text === undefined) return checkHardware(machine);
  const version = driverVersion(text);
  const answer = await askLibrary(machine);
  return [
    checkVersion(version),
    ...(typeof answer === 'string' ? [libraryFailed(answer)] : await checkGpus(answer, version, machine)),
    ...(await checkMps(machine)),
    ...(await checkCdi(machine, containerdConfig, version)),
  ];
}

/** A node may have GPUs that are handed on to virtual machines. */
async function checkHardware({ list, readText }: Machine): Promise<Finding[]> {
  let count = 0;
  for (const name of await list('/sys/bus/pci/devices')) {
    const of = async (file: string) => (await readText(`/sys/bus/pci/devices/${name}/${file}`))?.trim();
    // Vendor NVIDIA, class display controller. Source: the PCI ID repository.
    if ((await of('vendor')) === '0x10de' && (await of('class'))?.startsWith('0x03')) count += 1;
  }
  if (count === 0) return [];
  const found = `there ${count === 1 ? 'is an NVIDIA GPU' : `are ${count} NVIDIA GPUs`}, and the driver is not loaded`;
  return [warning(DRIVER, found, 'install the NVIDIA driver, 580 or later, and run "modprobe nvidia"')];
}

/** "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build …" */
function driverVersion(text: string): string {
  return /^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s/m.exec(text)?.[1] ?? '';
}

/** Source: NVIDIA's cuda-checkpoint README and its issues; docs/gpu.md has the whole table. */
function checkVersion(version: string): Finding {
  if (version === '')
    return failed(DRIVER, '/proc/driver/nvidia/version does not say which it is', 'install the driver again');
  if (!isAtLeast(version, 570)) return failed(DRIVER, `${version} cannot checkpoint a process`, UPDATE);
  if (!isAtLeast(version, 575, 57, 8))
    return warning(DRIVER, `${version} cannot restore a container that has some of the node's GPUs`, UPDATE);
  if (!isAtLeast(version, 580))
    return warning(DRIVER, `${version} restores onto the GPUs of the checkpoint alone`, UPDATE);
  return ok(DRIVER, version);
}

async function askLibrary({ run, env }: Machine): Promise<GpuAnswer | string> {
  const [libcuda, nvml] = [env('THAW_LIBCUDA'), env('THAW_LIBNVML')];
  const args = ['--gpus', ...(libcuda ? ['--libcuda', libcuda] : []), ...(nvml ? ['--nvml', nvml] : [])];
  const ran = await run('thaw-cuda', args);
  if (!ran) return 'there is no thaw-cuda in PATH';
  return parseGpuAnswer(ran.stdout) ?? 'thaw-cuda, which asks it, was ended by it';
}

function libraryFailed(why: string): Finding {
  return failed(
    LIBRARY,
    why,
    "install libcuda.so.1 and libnvidia-ml.so.1 of the driver on the node, or name them with THAW_LIBCUDA and THAW_LIBNVML in containerd's environment",
  );
}

async function checkGpus({ library, driver, gpus }: GpuAnswer, version: string, machine: Machine) {
  const findings: Finding[] =
    driver === version
      ? [ok(LIBRARY, `${library}, ${driver}`)]
      : [
          failed(
            LIBRARY,
            `${library} is of driver ${driver}, the kernel has ${version}`,
            'restart the node, or load the kernel module of the same version',
          ),
        ];
  const names = (some: typeof gpus) =>
    some.map(({ name, minor }) => `${name} (/dev/nvidia${minor})`).join(', ');
  const those = (is: (gpu: (typeof gpus)[number]) => boolean, what: string, mend: string) => {
    const some = gpus.filter(is);
    if (some.length > 0) findings.push(warning('GPU', `${what}: ${names(some)}`, mend));
  };
  those(
    ({ mig }) => mig,
    'divided by MIG, which the driver cannot save',
    'switch MIG off with "nvidia-smi -mig 0" on GPUs whose containers are to be saved',
  );
  those(
    ({ vgpu }) => vgpu,
    'virtual (vGPU), which the driver cannot save',
    'use a GPU that is passed through whole',
  );
  those(
    ({ persistence }) => !persistence,
    'persistence mode is off, and a restore may fail',
    'run "systemctl enable --now nvidia-persistenced", or "nvidia-smi -pm 1" at each boot',
  );
  if (findings.every(({ check }) => check !== 'GPU'))
    findings.push(ok('GPU', gpus.length > 0 ? names(gpus) : 'the driver has none'));
  return [...findings, ...(await checkMemory(gpus, machine))];
}

/** All that is on a GPU goes through the memory of the host. */
async function checkMemory(gpus: GpuAnswer['gpus'], { readText }: Machine): Promise<Finding[]> {
  const kib = /^MemTotal:\s*(\d+) kB$/m.exec((await readText('/proc/meminfo')) ?? '')?.[1];
  const gib = (bytes: number) => `${Math.round(bytes / 2 ** 30)} GiB`;
  const largest = Math.max(0, ...gpus.map(({ memoryBytes }) => memoryBytes));
  const bytes = Number(kib ?? Number.POSITIVE_INFINITY) * 1024;
  if (bytes >= largest) return [];
  return [
    warning(
      'memory for GPU state',
      `the node has ${gib(bytes)}, a GPU ${gib(largest)}: a full GPU cannot be saved`,
      'have the workload free what it can before the checkpoint, see docs/gpu.md',
    ),
  ];
}

async function checkMps({ exists }: Machine): Promise<Finding[]> {
  for (const path of MPS)
    if (await exists(path))
      return [
        warning(
          'MPS',
          `it runs (${path}), and the driver cannot save its clients`,
          'end it with "echo quit | nvidia-cuda-mps-control", or keep those containers from being saved',
        ),
      ];
  return [];
}
