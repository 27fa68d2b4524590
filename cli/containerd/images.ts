import { type Caller, serviceMethods } from './caller.ts';
import { type Descriptor, fromWire, toWire, type WireDescriptor } from './types.ts';

const { call } = serviceMethods('images/v1/images.proto', 'containerd.services.images.v1.Images');

export interface Image {
  name: string;
  labels: Readonly<Record<string, string>>;
  target: Descriptor;
}

interface WireImage {
  name: string;
  labels: Record<string, string>;
  target: WireDescriptor;
}

function read(wire: WireImage): Image {
  return { name: wire.name, labels: wire.labels, target: fromWire(wire.target) };
}

export function images(caller: Caller) {
  const write = async (rpc: 'Create' | 'Update', image: Image, request: object): Promise<Image> => {
    const answer = await call<{ image: WireImage }>(
      caller,
      rpc,
      { image: { name: image.name, labels: { ...image.labels }, target: toWire(image.target) }, ...request },
      { action: `${rpc === 'Create' ? 'create' : 'update'} the image ${image.name}` },
    );
    return read(answer.image);
  };
  return {
    async get(name: string): Promise<Image> {
      const answer = await call<{ image: WireImage }>(
        caller,
        'Get',
        { name },
        { action: `read the image ${name}` },
      );
      return read(answer.image);
    },
    async list(filters: string[] = []): Promise<Image[]> {
      const answer = await call<{ images: WireImage[] }>(
        caller,
        'List',
        { filters },
        { action: 'list images' },
      );
      return answer.images.map(read);
    },
    create: (image: Image) => write('Create', image, {}),
    update: (image: Image, paths: string[]) => write('Update', image, { updateMask: { paths } }),
    /** With `sync` it answers only after garbage collection has taken what nothing else refers to. */
    async remove(name: string, options: { sync?: boolean } = {}): Promise<void> {
      const request = { name, sync: options.sync ?? false };
      await call(caller, 'Delete', request, { action: `delete the image ${name}`, deadlineMs: 120_000 });
    },
  };
}
