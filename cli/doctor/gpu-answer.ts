/** What `thaw-cuda --gpus` prints; native/cuda/request.h has the lines. Pure. */

export interface GpuAnswer {
  /** Path of libcuda. */
  library: string;
  driver: string;
  gpus: {
    name: string;
    /** Its device is /dev/nvidia<minor>. */
    minor: number;
    memoryBytes: number;
    mig: boolean;
    persistence: boolean;
    vgpu: boolean;
  }[];
}

const GPU_FIELDS = 7;

/** The answer, or what it says is wrong; undefined if it says nothing. */
export function parseGpuAnswer(stdout: string): GpuAnswer | string | undefined {
  const lines = stdout.split('\n').map((line) => line.split('\t'));
  const problem = lines.find(([word]) => word === 'problem');
  if (problem) return problem.slice(1).join(' ');
  const library = lines.find(([word]) => word === 'ready')?.[1];
  const answer = lines.find(([word]) => word === 'ok');
  if (library === undefined || !answer) return undefined;
  const [, driver = '', ...fields] = answer;
  const gpus: GpuAnswer['gpus'] = [];
  for (let at = 0; at + GPU_FIELDS <= fields.length; at += GPU_FIELDS) {
    const [, minor, bytes, mig, persistence, vgpu, name = ''] = fields.slice(at, at + GPU_FIELDS);
    gpus.push({
      name,
      minor: Number(minor),
      memoryBytes: Number(bytes),
      mig: mig === '1',
      persistence: persistence === '1',
      vgpu: vgpu === '1',
    });
  }
  return { library, driver, gpus };
}
