import { Container, hold } from './container.ts';
import { failure, IMAGES, type Machine } from './machine.ts';

/** Two processes of a container, of which one has memory of the other's open (CUDA IPC). */
export async function ipcPeer(machine: Machine) {
  const box = await new Container(machine, 'peer', hold('peer', 1024, '--peer')).start();
  try {
    const before = await box.sum();
    await box.until(/^peer gpu=peer\.\.\./m);
    const refused = await box.dump(IMAGES, { exit: false }).then(() => undefined, failure);
    const goesOn = (await box.goesOn()).includes(' gpu=peer...');
    const said = () => box.file('out').match(/^peer gpu=peer\.\.\..*$/gm)?.length ?? 0;
    const peers = said();
    await box.goesOn();
    await box.goesOn();
    return {
      ...(refused === undefined ? { saved: true } : { reason: refused }),
      goes_on: goesOn,
      peer_goes_on: said() > peers,
      memory_equal: (await box.sum()) === before,
    };
  } finally {
    await box.remove();
  }
}
