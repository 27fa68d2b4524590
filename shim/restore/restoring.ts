/** All code that a restore needs before the process runs, in one file of the bundle: a container waits until it is loaded. */
export { checkChain } from '../../checkpoint/criu/pages-check.ts';
export { attemptDeps, editsOf, gpuRestores, planDeps, recordedMemory, rootfsDeps } from './deps.ts';
export { planGiven, savedFacts } from './given-images.ts';
export { planRestore } from './plan.ts';
