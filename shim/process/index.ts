/** Processes of the shim: helpers it runs, and exits of container processes it adopts. For runc/ and the task service. */
export { type Exit, ExitWatcher } from './exits.ts';
export { ChildSpawner, type Spawner } from './spawn.ts';
