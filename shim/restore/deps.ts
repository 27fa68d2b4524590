/** The effects of a restore: native calls, files below /proc, the daemon's socket. */
import { closeSync, existsSync, openSync } from 'node:fs';
import { readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { readImageRights } from '../../checkpoint/criu/image-rights.ts';
import { checkPages } from '../../checkpoint/criu/pages-check.ts';
import { TRIAL_INDEX_FILE } from '../../checkpoint/trial-files.ts';
import { native } from '../../native/index.ts';
import { Code, describeError } from '../../proto/status.ts';
import { containerFiles } from '../identity/container-files.ts';
import { telling } from '../identity/tell.ts';
import { mountRootfs, unmountRootfs } from '../mounts/rootfs.ts';
import { fillShm } from '../shm/fill.ts';
import { sharedMemoryDir } from '../shm/place.ts';
import { bundlePaths } from '../task/bundle.ts';
import type { PlanInput } from '../task/start-plan.ts';
import { nodeVersions } from '../versions.ts';
import { type AttemptDeps, criuWorkDir, type PrepareGpu } from './attempt.ts';
import { daemonAt } from './daemon.ts';
import { RestoreError } from './error.ts';
import type { GivenDeps } from './given-images.ts';
import { readGrants } from './grants.ts';
import type { RestoreConfig } from './index.ts';
import { prepareMemory } from './lazy/prepare.ts';
import { prepareRecorded } from './lazy/recorded.ts';
import type { PlanDeps } from './plan.ts';
import { excessInProc } from './proc-rights.ts';
import { failuresOfNode, nodeFacts, tellNode, tidyNode } from './remember.ts';
import { SharedFill } from './shared/fill.ts';
import { readSegments } from './shared/segments.ts';
import {
  cgroupDirs,
  cgroupMounts,
  criuTempDirs,
  removeCgroup,
  removeMountedDir,
  unmountCgroupYard,
} from './traces.ts';
import { wrapperEdits } from './wrapper-edits.ts';

const traceDeps = {
  umount: (target: string, flags: number) => native.umount(target, flags),
  mountinfo: () => readFile('/proc/self/mountinfo', 'utf8'),
};

/** What is told to be counted shall not take time from the start that it is about. */
const REPORT_AFTER_MS = 100;

export function planDeps(config: RestoreConfig, { spec, log }: Pick<PlanInput, 'spec' | 'log'>): PlanDeps {
  const daemon = daemonAt(config.daemonSocket);
  return {
    ...attemptDeps(),
    daemon,
    failures: failuresOfNode(log),
    node: nodeFacts,
    prepareGpu: gpuRestores(config),
    wrapperEdits: editsOf,
    report(report) {
      tellNode(report, spec, log);
      const tell = () =>
        daemon
          .report(report)
          .catch((error: unknown) =>
            log.debug({ container: report.containerId, reason: describeError(error).message }, 'not counted'),
          );
      setTimeout(() => {
        void tell();
        tidyNode(log);
      }, REPORT_AFTER_MS).unref();
    },
    prepareMemory: (located, deadlineMs, relocate, log) =>
      prepareMemory(
        located,
        { calls: native, daemon, guardProgram: config.guardProgram },
        deadlineMs,
        relocate,
        log,
      ),
    async afterMemory({ pid, memory }, { hugePages }, log) {
      try {
        if (!memory) return;
        await memory.complete;
        const { collapseHugePages } = await import('./lazy/huge-pages.ts');
        await collapseHugePages(pid, { hugePages, processes: memory.processes }, native, log);
      } catch (error) {
        // A container that ends, above all: the memory's own failure is told where the container is killed.
        log.debug({ reason: describeError(error).message }, 'no huge pages');
      }
    },
    versions: ({ runc }) => nodeVersions(runc),
    ...rootfsDeps,
    async lockShared(file) {
      const fd = openSync(file, 'r');
      if (!native.tryLock(fd, false)) {
        closeSync(fd);
        throw new RestoreError(Code.unavailable, 'The checkpoint is being removed from this node', {
          context: { file },
        });
      }
      let held = true;
      return async () => {
        if (held) closeSync(fd);
        held = false;
      };
    },
  };
}

export const rootfsDeps: Pick<PlanDeps, 'unmountRootfs' | 'mountRootfs'> = {
  unmountRootfs: (bundle) => unmountRootfs(bundlePaths(bundle).rootfs, native),
  mountRootfs(bundle, mounts) {
    const { rootfs, layers } = bundlePaths(bundle);
    return mountRootfs(mounts, rootfs, layers, native);
  },
};

export const editsOf: PlanDeps['wrapperEdits'] = (input) => wrapperEdits(input.runc, input, input.log);

/** What brings GPU state back: loaded, and the program started, only for a checkpoint that has some. */
export function gpuRestores({ cuda }: RestoreConfig): PrepareGpu {
  return async (facts, { spec, runc, log }) => {
    const { cudaHelper, prepareGpuRestore } = await import('../cuda/index.ts');
    return prepareGpuRestore(facts, spec, cudaHelper(cuda, runc), log);
  };
}

export function recordedMemory({ guardProgram }: RestoreConfig): GivenDeps['prepareRecorded'] {
  return async (imagePath, workPath) => {
    if (!existsSync(join(workPath, TRIAL_INDEX_FILE))) return undefined;
    return prepareRecorded(imagePath, workPath, { calls: native, guardProgram });
  };
}

export function attemptDeps(): AttemptDeps {
  return {
    checkImages: checkPages,
    telling: (input) =>
      telling(input, {
        ...containerFiles,
        readInNamespaces: (path, namespaces) => native.readInNamespaces(path, [...namespaces]),
      }),
    async fillShm(imagesDir, spec) {
      const target = sharedMemoryDir(spec);
      return target === undefined ? undefined : fillShm(imagesDir, target);
    },
    async fillShared(imagesDir, target, log) {
      const segments = await readSegments(imagesDir);
      return segments.length === 0 ? undefined : SharedFill.start(imagesDir, target, segments, native, log);
    },
    imageRights: readImageRights,
    grants: readGrants,
    excessInProc,
    cgroupDirs: async (spec) =>
      cgroupDirs(spec.linux?.cgroupsPath, cgroupMounts(await traceDeps.mountinfo())),
    namespaceFiles: {
      read: (path, namespaces) => native.readInNamespaces(path, [...namespaces]),
      write: (path, value, namespaces) => native.writeInNamespaces(path, value, [...namespaces]),
    },
    async removeTraces(input) {
      const { id, runc, spec, keptWorkDir } = input;
      const work = criuWorkDir(input);
      await runc.delete(id, true);
      const mountinfo = await traceDeps.mountinfo();
      for (const dir of cgroupDirs(spec.linux?.cgroupsPath, cgroupMounts(mountinfo))) await removeCgroup(dir);
      await removeMountedDir(join(runc.config.root, id), traceDeps);
      const log = await readFile(join(work, 'restore.log'), 'utf8').catch(() => '');
      for (const dir of criuTempDirs(log)) await removeMountedDir(dir, traceDeps);
      // CRIU mounts the cgroup hierarchies in its work directory: removing it with them would remove cgroups. mountinfo has
      // real paths, and the bundle's `work` is a link.
      const place = await realpath(work).catch(() => work);
      if (keptWorkDir) await unmountCgroupYard(place, traceDeps);
      else await removeMountedDir(place, traceDeps);
    },
  };
}
