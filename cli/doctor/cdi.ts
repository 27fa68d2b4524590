/** Whether containerd can give GPUs to containers by CDI, the way in which a restore finds them. */
import { join } from 'node:path';
import { readConfig } from './containerd.ts';
import { cdiSettings } from './containerd-config.ts';
import { type Finding, ok, warning } from './finding.ts';
import type { Machine } from './machine.ts';

/** In JSON or YAML: nvidia.com/gpu, k8s.device-plugin.nvidia.com/gpu, … */
const KIND = /"?\bkind"?:\s*"?[\w.-]*nvidia\.com\//;

export async function checkCdi(machine: Machine, configFile: string, driver: string): Promise<Finding[]> {
  const config = await readConfig(machine, configFile);
  // Then that is what has to be mended first.
  if ('status' in config) return [];
  const { enabled, dirs } = cdiSettings(config.settings);
  if (!enabled)
    return [
      warning(
        'CDI',
        'containerd does not give devices by CDI',
        'set enable_cdi = true for the CRI plug-in and restart containerd, or use containerd 2.0 or later',
      ),
    ];
  const specs = await nvidiaSpecs(machine, dirs);
  if (specs.length === 0)
    return [
      warning(
        'CDI',
        `no specification for NVIDIA GPUs in ${dirs.join(', ') || 'any directory'}`,
        'run "nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml", or have the device plug-in make it (cdi-cri)',
      ),
    ];
  const old = specs.find(({ text }) => isOfAnother(text, driver));
  return [
    old
      ? warning('CDI', `${old.path} is of another driver than ${driver}`, 'have it generated again')
      : ok('CDI', specs.map(({ path }) => path).join(', ')),
  ];
}

async function nvidiaSpecs({ list, readText }: Machine, dirs: readonly string[]) {
  const specs: { path: string; text: string }[] = [];
  for (const dir of dirs)
    for (const name of await list(dir)) {
      if (!/\.(json|ya?ml)$/.test(name)) continue;
      const path = join(dir, name);
      const text = (await readText(path)) ?? '';
      if (KIND.test(text)) specs.push({ path, text });
    }
  return specs;
}

function isOfAnother(spec: string, driver: string): boolean {
  const named = /libcuda\.so\.(\d+\.\d+(?:\.\d+)?)/.exec(spec)?.[1];
  return named !== undefined && named !== driver;
}
