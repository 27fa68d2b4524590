/** Whether processes of a container may share GPU memory that the driver would lose. Pure. */
import { annotationOf } from '../annotation.ts';

/** The first driver that saves memory which one process opened by the CUDA IPC handle of another. */
const FIRST_DRIVER = 610;
/** On a pod: "independent" says that its processes share no GPU memory. */
const ANNOTATION = 'thaw.dev/gpu-processes';

/**
 * An older driver takes such processes off the GPU without an error and cannot put them back (seen with 580, `ipc_peer` of
 * test/gpu/results.json), and nothing tells beforehand which processes share.
 */
export function sharingRisk(
  processes: number,
  driver: string,
  annotations: Readonly<Record<string, string>> = {},
): string | undefined {
  if (processes < 2 || Number.parseInt(driver, 10) >= FIRST_DRIVER) return undefined;
  const [name, value] = annotationOf(annotations, ANNOTATION) ?? [];
  if (value === 'independent') return undefined;
  const said = value === undefined ? '' : `; ${name} is "${value}"`;
  return `${processes} of its processes use the GPU, and NVIDIA driver ${driver} would lose them if they share GPU memory (CUDA IPC, as NCCL does): use driver ${FIRST_DRIVER} or later or, if they share none, give the pod the annotation ${ANNOTATION}: independent${said}`;
}
