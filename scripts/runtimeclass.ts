/**
 * Prints deploy/kubernetes/runtimeclass.yaml. What a pod costs besides its containers is what scripts/bench shim has
 * measured: docs/performance.md, "proportional memory of an idle pod".
 *
 * usage: node scripts/runtimeclass.ts > deploy/kubernetes/runtimeclass.yaml
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROW = /^\| proportional memory of an idle pod \| ([\d.]+) MB \|/m;

/** A shim that restores has loaded that code too, and a second process that guards memory while it arrives. */
const ROOM = 2;
const STEP_MIB = 8;

/** Bytes that an idle pod has, by the table of the documentation. */
export function measuredBytes(performance: string): number {
  const megabytes = ROW.exec(performance)?.[1];
  if (megabytes === undefined)
    throw new Error('docs/performance.md has no row "proportional memory of an idle pod"');
  return Number(megabytes) * 1e6;
}

export function overheadMib(bytes: number): number {
  return Math.ceil((bytes * ROOM) / 2 ** 20 / STEP_MIB) * STEP_MIB;
}

export function runtimeClass(bytes: number): string {
  return `# Pods with \`runtimeClassName: thaw\` run under thaw. The handler is the runtime's name in containerd's configuration.
# Made by scripts/runtimeclass.ts: an idle pod was measured to take ${(bytes / 1e6).toFixed(1)} MB.
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: thaw
handler: thaw
overhead:
  podFixed:
    memory: ${overheadMib(bytes)}Mi
scheduling:
  nodeSelector:
    thaw.dev/ready: "true"
`;
}

if (import.meta.main)
  process.stdout.write(
    runtimeClass(measuredBytes(readFileSync(join(import.meta.dirname, '../docs/performance.md'), 'utf8'))),
  );
