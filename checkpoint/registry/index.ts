/**
 * The registry client: OCI distribution-spec 1.1 over HTTP, with tokens, redirects, ranges and pushes.
 * May be called from checkpoint/, cli/ and snapshotter/; keeps no state on disk.
 */
export { type CallOptions, RegistryClient } from './client.ts';
export { CredentialStore, type CredentialStoreOptions } from './credential-store.ts';
export {
  type CredentialRequest,
  type Credentials,
  type FindCredentials,
  isRefused,
  sameCredentials,
} from './credentials.ts';
export type { Endpoint } from './endpoint.ts';
export {
  type Descriptor,
  type ImageConfig,
  imageConfigSchema,
  type Manifest,
  manifestSchema,
  type Platform,
  parseDocument,
} from './manifest.ts';
export { mediaTypes, ociLayerType } from './media-types.ts';
export type { PulledImage, RawManifest } from './pull-manifest.ts';
export type { BlobSource, PushOptions, PushOutcome } from './push-blob.ts';
export type { BlobRef } from './read-blob.ts';
export {
  apiHost,
  formatReference,
  isLoopback,
  manifestSelector,
  parseReference,
  type Reference,
} from './reference.ts';
export type { RegistryOptions } from './session.ts';
