import { type Finding, ok, warning } from './finding.ts';
import type { ContainerdView } from './machine.ts';

/** Whatever way a pod's image came here before the node, or its pods, used thaw. */
export async function checkImages(containerd: ContainerdView, snapshotter: string): Promise<Finding[]> {
  const [images, containers] = await Promise.all([containerd.images(), containerd.containers()]);
  const elsewhere = images.filter(
    ({ isCheckpoint, unpackedBy }) =>
      isCheckpoint && unpackedBy.length > 0 && !unpackedBy.includes(snapshotter),
  );
  const strangers = containers.filter(
    (container) => isThaw(container.runtime) && container.snapshotter !== snapshotter,
  );
  const findings = [
    ...elsewhere.map(({ name, unpackedBy }) =>
      warning(
        'image',
        `${name} is unpacked under ${unpackedBy.join(', ')}: the next pod unpacks all of it again, or restores from those files`,
        `remove it ("crictl rmi ${name}"), then "thaw prefetch ${name}"`,
      ),
    ),
    ...strangers.map(({ id, image, snapshotter: other }) =>
      warning(
        'container',
        `${id} (${image}) runs under thaw on ${other}: its checkpoint, if it has one, was not streamed`,
        'it is right after its image is removed and pulled again for the runtime class',
      ),
    ),
  ];
  return findings.length > 0 ? findings : [ok('images', `none of ${images.length} is in the way`)];
}

export function isThaw(runtime: string): boolean {
  return /(^io\.containerd\.runc\.thaw\.v2$)|(containerd-shim-thaw-v2$)/.test(runtime);
}
