/** The task service: containers and their processes as containerd sees them. Put together by shim/serve.ts. */
export { TaskService, type TaskServiceDeps } from './service.ts';
export { alwaysCold, type PrepareDump, plainDump, type StartPlanner } from './start-plan.ts';
