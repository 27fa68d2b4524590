import type { Descriptor, Manifest } from '../../checkpoint/registry/index.ts';

/** One blob that the content store must have. */
export interface WantedBlob {
  digest: string;
  size: number;
  labels: Record<string, string>;
}

/** containerd's garbage collector follows these from a blob to others. Source: containerd, docs/garbage-collection.md. */
export function manifestGcLabels(manifest: Manifest): Record<string, string> {
  const labels: Record<string, string> = { 'containerd.io/gc.ref.content.config': manifest.config.digest };
  for (const [at, { digest }] of manifest.layers.entries())
    labels[`containerd.io/gc.ref.content.l.${at}`] = digest;
  return labels;
}

export function indexGcLabels(manifests: readonly Descriptor[], chosen: string): Record<string, string> {
  const at = manifests.findIndex(({ digest }) => digest === chosen);
  return { [`containerd.io/gc.ref.content.m.${at}`]: chosen };
}

/** Where a blob came from, so that a push to the same registry can mount it. Source: containerd, core/remotes/docker. */
export function sourceLabel(registry: string, repository: string): Record<string, string> {
  return { [`containerd.distribution.source.${registry}`]: repository };
}

/** Config and layers, each digest once: an image may list a layer twice. */
export function blobsOf(manifest: Manifest, labels: Record<string, string>): WantedBlob[] {
  const blobs = new Map<string, WantedBlob>();
  for (const { digest, size } of [manifest.config, ...manifest.layers])
    blobs.set(digest, { digest, size, labels });
  return [...blobs.values()];
}
