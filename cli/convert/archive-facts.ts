/** Between the documents of an archive and ours. Pure; everything that comes from an archive is untrusted. */
import { z } from 'zod';
import { type CheckpointFacts, type DumpFacts, dumpFactsSchema } from '../../checkpoint/facts.ts';
import { mountFacts } from '../../checkpoint/host-facts.ts';
import { launchOf } from '../../checkpoint/launch.ts';
import { readCheckpointFacts } from '../../checkpoint/read-facts.ts';
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';
import { ARCHIVE } from './archive.ts';

/** Source: checkpointctl's ContainerConfig; times are Go's. */
const configSchema = z.looseObject({
  id: z.string().max(256).optional(),
  name: z.string().max(256).optional(),
  rootfsImageName: z.string().max(4096).optional(),
  runtime: z.string().max(4096).optional(),
  createdTime: z.string().optional(),
});

const id = z.int().min(0).max(0xffff_ffff);
const specSchema = z.looseObject({
  process: z.looseObject({
    terminal: z.boolean().optional(),
    args: z.array(z.string()).max(65_536),
    cwd: z.string(),
    env: z.array(z.string()).max(65_536).optional(),
    user: z.looseObject({ uid: id, gid: id, additionalGids: z.array(id).max(65_536).nullish() }).optional(),
  }),
  mounts: z
    .array(
      z.looseObject({
        destination: z.string(),
        type: z.string().optional(),
        options: z.array(z.string()).nullish(),
      }),
    )
    .max(65_536)
    .nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
  linux: z.looseObject({ namespaces: z.array(z.looseObject({ type: z.string() })).nullish() }).optional(),
});

export interface ArchiveDocuments {
  config: Buffer | undefined;
  spec: Buffer | undefined;
  deleted: Buffer | undefined;
  facts: Buffer | undefined;
  /** The beginning of CRIU's log. */
  log: string;
}

export interface ArchiveFacts {
  dump: DumpFacts;
  /** Of the base image, where the archive says it. */
  imageName: string | undefined;
  containerName: string | undefined;
  engine: string;
  /** Paths in the root file system. */
  deleted: string[];
}

/** `host`: this node's, for what an archive does not say. */
export function readArchiveFacts(documents: ArchiveDocuments, host: DumpFacts['host']): ArchiveFacts {
  const config = parse(configSchema, documents.config, ARCHIVE.config);
  const spec = parse(specSchema, documents.spec, ARCHIVE.spec);
  if (spec.process.terminal)
    throw new CliError(Code.failedPrecondition, 'Cannot convert the archive: the container had a terminal');
  if (spec.linux?.namespaces?.some(({ type }) => type === 'user'))
    throw new CliError(
      Code.failedPrecondition,
      'Cannot convert the archive: the container had a user namespace',
    );
  const own = documents.facts && readCheckpointFacts(documents.facts);
  const { user } = spec.process;
  const { args, cwd, env = [] } = spec.process;
  const { uid = 0, gid = 0, additionalGids } = user ?? {};
  const launch = launchOf({
    process: { args, cwd, env, user: { uid, gid, additionalGids: additionalGids ?? [] } },
  });
  const mounts = (spec.mounts ?? []).map(({ destination, type = '', options }) => ({
    destination,
    type,
    options: options ?? [],
  }));
  return {
    dump: own
      ? // What other tools have no place for, such as huge pages.
        dumpFactsSchema.parse(own)
      : { launch, host: { ...host, ...versionsOf(documents.log) }, mounts: mountFacts({ mounts }) },
    imageName: config.rootfsImageName,
    containerName: spec.annotations?.['io.kubernetes.cri.container-name'] ?? config.name,
    engine: engineOf(spec.annotations?.['io.container.manager']),
    deleted: documents.deleted
      ? parse(z.array(z.string()).max(1_000_000), documents.deleted, ARCHIVE.deleted)
      : [],
  };
}

/** CRIU says which it is in the first lines of its log. */
function versionsOf(log: string): { criu?: string } {
  const criu = /^\([\d.]+\) Version: (\d[\w.]{0,31})\b/m.exec(log)?.[1];
  return criu === undefined ? {} : { criu };
}

function engineOf(manager: string | undefined): string {
  switch (manager) {
    case 'libpod':
      return 'Podman';
    case 'cri-o':
      return 'CRI-O';
    default:
      return 'containerd';
  }
}

function parse<T>(schema: z.ZodType<T>, bytes: Buffer | undefined, name: string): T {
  if (bytes === undefined)
    throw new CliError(
      Code.invalidArgument,
      `Cannot convert the archive: it has no ${name}; name one that CRI-O, containerd or Podman has made of a container`,
    );
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new CliError(Code.dataLoss, `Cannot read the archive: ${name} is no JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const at = parsed.error.issues[0]?.path.join('.') || 'the document';
  throw new CliError(Code.dataLoss, `Cannot read the archive: ${name}: "${at}" is not as it should be`, {
    cause: parsed.error,
  });
}

/** What other tools read of a checkpoint. Our image never has an OCI spec, so this one says what is known and no more. */
export function archiveDocuments(
  facts: CheckpointFacts,
  source: { digest: string; base: string | undefined },
): Record<string, object> {
  const name = facts.annotations['org.criu.checkpoint.container.name'] ?? 'thaw';
  const created = facts.created;
  const { launch, image, surroundings } = facts;
  const config = {
    id: source.digest.replace(/^sha256:/, ''),
    name,
    rootfsImage: image.reference,
    rootfsImageName: image.reference,
    // containerd pulls the base by it.
    rootfsImageRef: source.base ?? image.configDigest,
    // Podman's: it imports no container without.
    rootfsImageID: image.configDigest.replace(/^sha256:/, ''),
    runtime: 'runc',
    createdTime: created,
    checkpointedTime: created,
    restoredTime: '0001-01-01T00:00:00Z',
    restored: false,
  };
  const spec = {
    ociVersion: '1.1.0',
    process: {
      user: { uid: launch.uid, gid: launch.gid, additionalGids: launch.additionalGids },
      args: launch.args,
      env: launch.env,
      cwd: launch.cwd,
      // Podman's exec expects some. What its processes have comes from the images.
      capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
    },
    root: { path: 'rootfs', readonly: surroundings?.readOnlyRoot ?? false },
    mounts: facts.mounts.map(({ destination, type, readOnly }) => ({
      destination,
      type,
      source: type === 'bind' ? destination : type,
      options: [...(type === 'bind' ? ['rbind'] : []), readOnly ? 'ro' : 'rw'],
    })),
    annotations: {
      'io.kubernetes.cri.container-name': name,
      'io.kubernetes.cri.image-name': image.reference,
    },
    linux: {
      namespaces: ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
      // runc tells CRIU of each, which restores no mount that it is not told of.
      maskedPaths: surroundings?.maskedPaths ?? [],
      readonlyPaths: surroundings?.readonlyPaths ?? [],
    },
  };
  const status = {
    id: config.id,
    metadata: { name },
    state: 1,
    created_at: 0,
    image: { image: image.reference },
    image_ref: image.configDigest,
    labels: {},
    annotations: {},
  };
  // Nanoseconds. When the container was created is not known.
  const dumped = Date.parse(created) * 1e6;
  const state = {
    ...{ Version: 'v1', Pid: 0, CreatedAt: dumped, StartedAt: dumped, FinishedAt: 0 },
    ...{ ExitCode: 0, Reason: '', Message: '' },
  };
  return {
    [ARCHIVE.config]: config,
    [ARCHIVE.spec]: spec,
    [ARCHIVE.status]: status,
    [ARCHIVE.state]: state,
    [ARCHIVE.facts]: facts,
  };
}
