import { Code } from '../proto/status.ts';
import { CheckpointError } from './error.ts';
import {
  type CheckpointFacts,
  checkpointFactsSchema,
  type DumpFacts,
  FORMAT_VERSION,
  type LayerFacts,
} from './facts.ts';

export interface FactsInput {
  /** What the shim wrote beside the dump. */
  dump: DumpFacts;
  /** RFC 3339, UTC. */
  created: string;
  /** The image the container ran from. */
  image: { reference: string; configDigest: string };
  /** Packed data layers; the index layer is counted here. */
  dataLayers: number;
  base: readonly LayerFacts[];
  diff: LayerFacts | null;
  /** From the dump's images. */
  summary: Pick<CheckpointFacts, 'processes' | 'memoryBytes'>;
  /** "containerd" and its version, and the container's name where the platform gave one. */
  /** It was restored once, and works. */
  verified: boolean;
  engine: { name: string; version?: string | undefined };
  containerName?: string | undefined;
}

/** Builds checkpoint.json. Throws internal if the parts do not make facts that a reader would accept. */
export function mergeFacts(input: FactsInput): CheckpointFacts {
  const { dump } = input;
  const parsed = checkpointFactsSchema.safeParse({
    ...dump,
    formatVersion: FORMAT_VERSION,
    created: input.created,
    image: input.image,
    layers: { checkpoint: input.dataLayers + 1, base: [...input.base], diff: input.diff },
    processes: input.summary.processes,
    memoryBytes: input.summary.memoryBytes,
    verified: input.verified,
    annotations: criuAnnotations(input),
  } satisfies CheckpointFacts);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new CheckpointError(
    Code.internal,
    `Cannot describe the checkpoint: ${issue?.path.join('.') ?? 'a fact'} ${issue?.message ?? 'is wrong'}`,
    { cause: parsed.error },
  );
}

/** Keys of checkpointctl and CRI-O, so that their tools can list these images too. */
function criuAnnotations({ dump, image, engine, containerName }: FactsInput): Record<string, string> {
  const values: Record<string, string | undefined> = {
    'engine.name': engine.name,
    'engine.version': engine.version,
    'container.name': containerName,
    rootfsImageName: image.reference,
    rootfsImageID: image.configDigest,
    'runtime.name': 'runc',
    'runtime.version': dump.host.runc,
    'criu.version': dump.host.criu,
    'host.arch': dump.host.arch,
    'host.kernel': dump.host.kernel,
    'cgroup.version': dump.host.cgroup,
  };
  return Object.fromEntries(
    Object.entries(values).flatMap(([key, value]) =>
      value === undefined || value === '' ? [] : [[`org.criu.checkpoint.${key}`, value]],
    ),
  );
}
