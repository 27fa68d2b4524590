import { Container, hold, INDEPENDENT } from './container.ts';
import { expectFailure, IMAGES, type Machine } from './machine.ts';

/** Two containers with a process each, of which one has GPU memory of the other's open; no namespace is shared. */
export async function ipcContainer(machine: Machine) {
  const { gpus } = await machine.helper.gpus();
  const [first, second] = gpus.map(({ minor }) => minor);
  const owner = await new Container(machine, 'owner', hold('owner', 64, '--ipc'), [first ?? 0]).start();
  const others: Container[] = [];
  const opener = async (name: string, minor: number, annotations = {}) => {
    const args = hold(name, 0, '--no-gpu', '--open', handle);
    const box = new Container(machine, name, args, [minor]).say(annotations);
    others.push(box);
    await box.start();
    // Its child has the memory open, or says why not.
    const said = await box.until(/^(peer gpu=owner\.\.\.|failed .*)/m);
    return { box, opened: said.startsWith('peer') || said };
  };
  const handle = (await owner.until(/^handle [0-9a-f]+$/m)).slice('handle '.length);
  try {
    const { box: other, opened } = await opener('other', first ?? 0);
    const refused = async (box: Container) => ({
      reason: await expectFailure(box.dump(IMAGES, { exit: false })),
      goes_on: (await box.goesOn()) !== '',
    });
    const result = {
      opened,
      owner: await refused(owner),
      other: await refused(other),
      with_the_other_gpu_alone: second === undefined ? undefined : (await opener('apart', second)).opened,
    };
    const { box: liar } = await opener('liar', first ?? 0, INDEPENDENT);
    return { ...result, lost_if_let: await expectFailure(liar.dump(IMAGES, { exit: false })) };
  } finally {
    for (const box of [...others, owner]) await box.remove();
  }
}
