/** The lines of native/cuda/request.h. Pure. */
import type { Gpu, GpuList, GpuPair, GpuUse, ProcessState } from './driver.ts';

export type Answer =
  | { kind: 'ok'; fields: string[] }
  | { kind: 'error'; result: number; name: string }
  | { kind: 'problem'; text: string };

/** Undefined for a line that is no answer. */
export function parseAnswer(line: string): { id: number; answer: Answer } | undefined {
  const [id = '', kind, ...fields] = line.split('\t');
  if (!/^\d+$/.test(id)) return undefined;
  switch (kind) {
    case 'ok':
      return { id: Number(id), answer: { kind, fields } };
    case 'error':
      return { id: Number(id), answer: { kind, result: Number(fields[0]), name: fields[1] ?? '' } };
    case 'problem':
      return { id: Number(id), answer: { kind, text: fields.join(' ') } };
    default:
      return undefined;
  }
}

const STATES: readonly ProcessState[] = ['running', 'locked', 'checkpointed', 'failed'];

export function parseState(field: string | undefined): ProcessState | undefined {
  return STATES[Number(field ?? '')];
}

const GPU_FIELDS = 7;

export function parseGpus([driver = '', ...fields]: readonly string[]): GpuList {
  const gpus: Gpu[] = [];
  for (let at = 0; at + GPU_FIELDS <= fields.length; at += GPU_FIELDS) {
    const [uuid = '', minor, bytes, mig, persistence, vgpu, name = ''] = fields.slice(at, at + GPU_FIELDS);
    gpus.push({
      uuid,
      minor: Number(minor),
      memoryBytes: Number(bytes),
      name,
      mig: mig === '1',
      persistence: persistence === '1',
      vgpu: vgpu === '1',
    });
  }
  return { driver, gpus };
}

const USE_FIELDS = 3;

export function parseUse(fields: readonly string[]): GpuUse[] {
  const uses: GpuUse[] = [];
  for (let at = 0; at + USE_FIELDS <= fields.length; at += USE_FIELDS) {
    const [gpu = '', pid, bytes] = fields.slice(at, at + USE_FIELDS);
    uses.push({ gpu, pid: Number(pid), bytes: Number(bytes) });
  }
  return uses;
}

export function pairField({ from, to }: GpuPair): string {
  return `${digits(from)}=${digits(to)}`;
}

function digits(uuid: string): string {
  return uuid.replace(/^GPU-/, '').replaceAll('-', '').toLowerCase();
}
