import { createHash } from 'node:crypto';

/** What an image is made of, apart from where its bytes lie. Field names: OCI image-spec v1.1. */
export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

export interface Document extends Descriptor {
  json: Buffer;
}

export interface ImageSettings {
  env: Record<string, string>;
  cmd: readonly string[];
  port?: number;
}

export interface LayerFacts {
  digest: string;
  size: number;
  diffId: string;
  /** For the image's history. */
  made: string;
}

export const layerMediaType = 'application/vnd.oci.image.layer.v1.tar+zstd';

/** Configuration and manifest of an image for this machine's architecture. Equal input gives equal digests. */
export function describeImage(
  layers: readonly LayerFacts[],
  settings: ImageSettings,
  architecture: 'amd64' | 'arm64',
): { config: Document; manifest: Document } {
  const config = document('application/vnd.oci.image.config.v1+json', {
    architecture,
    os: 'linux',
    config: {
      Env: Object.entries(settings.env).map(([name, value]) => `${name}=${value}`),
      Cmd: settings.cmd,
      WorkingDir: '/',
      StopSignal: 'SIGTERM',
      ...(settings.port !== undefined && { ExposedPorts: { [`${settings.port}/tcp`]: {} } }),
    },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
    history: layers.map((layer) => ({ created_by: layer.made })),
  });
  const manifest = document('application/vnd.oci.image.manifest.v1+json', {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: descriptor(config),
    layers: layers.map(({ digest, size }) => ({ mediaType: layerMediaType, digest, size })),
  });
  return { config, manifest };
}

function document(mediaType: string, value: object): Document {
  const json = Buffer.from(JSON.stringify(value));
  const digest = `sha256:${createHash('sha256').update(json).digest('hex')}`;
  return { mediaType, digest, size: json.length, json };
}

function descriptor({ mediaType, digest, size }: Document): Descriptor {
  return { mediaType, digest, size };
}
