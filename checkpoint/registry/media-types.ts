/** Media types of OCI image-spec 1.1 and of Docker's image manifest v2, schema 2. */
export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
} as const;

export function isIndexType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociIndex || mediaType === mediaTypes.dockerList;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociManifest || mediaType === mediaTypes.dockerManifest;
}

/** The OCI type of a layer; undefined if it is no layer that an OCI manifest may list. */
export function ociLayerType(mediaType: string): string | undefined {
  switch (mediaType) {
    case mediaTypes.dockerLayer:
      return mediaTypes.ociLayer;
    case mediaTypes.dockerLayerGzip:
      return mediaTypes.ociLayerGzip;
    case mediaTypes.dockerLayerZstd:
      return mediaTypes.ociLayerZstd;
    default:
      return mediaType.startsWith('application/vnd.oci.image.layer.') ? mediaType : undefined;
  }
}
