/**
 * `.thaw/checkpoint.json`: facts about a checkpoint that decide whether it can run somewhere. Never an OCI spec: what a
 * restored container may do comes from the live pod. docs/image-format.md is the specification.
 */
// A restore waits for what it loads: all of zod takes 40 ms, this part of it a few.
import * as z from 'zod/mini';

export const FORMAT_VERSION = 1;

const count = z.int().check(z.nonnegative());
const digest = z.string().check(z.regex(/^sha256:[0-9a-f]{64}$/));

const layer = z.object({
  digest,
  /** Digest of the uncompressed tar. */
  diffId: digest,
  mediaType: z.string(),
  size: count,
});

/** What was asked to run. A pod that asks for something else starts cold. */
const launch = z.object({
  args: z.array(z.string()),
  cwd: z.string(),
  uid: count,
  gid: count,
  additionalGids: z.array(count),
  /** "NAME=value", sorted, without what the platform sets for each pod. */
  env: z.array(z.string()),
  /** What config maps and secrets held, one digest a mount; an image that has none of it says nothing. */
  files: z.optional(z.array(z.object({ destination: z.string(), digest })).check(z.maxLength(1024))),
  /** Variables of `env` whose whole value was the pod's own, which no other pod has. */
  ofPod: z.optional(z.array(z.object({ variable: z.string(), field: z.string() })).check(z.maxLength(1024))),
});

const host = z.object({
  /** As in Go: amd64, arm64. */
  arch: z.string(),
  kernel: z.string(),
  cpuFlags: z.array(z.string()),
  criu: z.string(),
  runc: z.string(),
  cgroup: z.enum(['v1', 'v2']),
});

const mount = z.object({ destination: z.string(), type: z.string(), readOnly: z.boolean() });

/** Memory that was in huge pages: the process's pid as in the images, and mappings as [start, end] in hexadecimal. */
const address = z.string().check(z.regex(/^[0-9a-f]{1,16}$/));
const hugeMemory = z.object({
  pid: z.int().check(z.positive()),
  ranges: z.array(z.tuple([address, address])).check(z.maxLength(4096)),
});

/** State that was on GPUs, and is in the processes' memory now. */
const gpu = z.object({
  uuid: z.string().check(z.regex(/^GPU-[0-9a-f-]{32,40}$/)),
  name: z.string().check(z.maxLength(128)),
  memoryBytes: count,
  /** Its device was /dev/nvidia<minor>. */
  minor: z.int().check(z.minimum(0), z.maximum(254)),
});
const cuda = z.object({
  /** Of NVIDIA, as "580.159.04". */
  driver: z.string().check(z.maxLength(64)),
  /** Every GPU that the container had, used or not. */
  gpus: z.array(gpu).check(z.minLength(1), z.maxLength(64)),
  /** Pids as in the images, in the order of locking, with the bytes that each had on GPUs. */
  processes: z
    .array(z.object({ pid: z.int().check(z.positive()), bytes: count }))
    .check(z.minLength(1), z.maxLength(4096)),
});

const paths = z.array(z.string().check(z.maxLength(4096))).check(z.maxLength(1024));

/** What the saved pod wanted done after a restore; it gives no right that the pod does not have. */
const afterRestore = z.object({
  /** For the first process. */
  signal: z.optional(z.string().check(z.regex(/^SIG[A-Z0-9]{2,8}$/))),
  /** Run in the container. */
  exec: z.optional(z.array(z.string().check(z.maxLength(4096))).check(z.minLength(1), z.maxLength(256))),
});

/** Written by the shim beside the CRIU images as `thaw-dump.json`; the packer merges it into checkpoint.json. */
export const dumpFactsSchema = z.object({
  launch,
  host,
  mounts: z.array(mount),
  /** Absent in checkpoints of versions before 0.2. */
  surroundings: z.optional(
    z.object({
      maskedPaths: paths,
      readonlyPaths: paths,
      /** Paths of devices that the container was given besides those that all have, but for GPUs'. */
      devices: paths,
      readOnlyRoot: z.boolean(),
      /** "apparmor", "selinux" or "none": what confined the container. Absent in checkpoints of versions before. */
      lsm: z.optional(z.string().check(z.maxLength(32))),
    }),
  ),
  hugePages: z.optional(z.array(hugeMemory).check(z.maxLength(4096))),
  cuda: z.optional(cuda),
  afterRestore: z.optional(afterRestore),
});
export type DumpFacts = z.infer<typeof dumpFactsSchema>;
export const DUMP_FACTS_FILE = 'thaw-dump.json';

export const checkpointFactsSchema = z.extend(dumpFactsSchema, {
  formatVersion: z.literal(FORMAT_VERSION),
  created: z.iso.datetime(),
  /** The image the container ran from. */
  image: z.object({ reference: z.string(), configDigest: digest }),
  layers: z.object({
    /** How many checkpoint layers lie at the bottom: the index layer and the data layers. */
    checkpoint: z.int().check(z.minimum(2), z.maximum(1024)),
    base: z.array(layer).check(z.minLength(1)),
    /** The rootfs diff on top; null if nothing in the root file system had changed. */
    diff: z.nullable(layer),
  }),
  processes: z.array(z.object({ pid: z.int(), ppid: z.int(), comm: z.string(), threads: z.int() })),
  /** Bytes of memory that a restore brings back. */
  memoryBytes: count,
  /** Whether it was restored once on the node that made it, and worked; an image that does not say so is not. */
  verified: z.optional(z.boolean()),
  /** org.criu.checkpoint.* as other tools write them. */
  annotations: z.record(z.string(), z.string()),
});
export type CheckpointFacts = z.infer<typeof checkpointFactsSchema>;
export type LayerFacts = z.infer<typeof layer>;
export type Launch = z.infer<typeof launch>;
export type Surroundings = NonNullable<DumpFacts['surroundings']>;
export type AfterRestore = z.infer<typeof afterRestore>;
