/**
 * What surrounds `runc checkpoint`: CRIU's configuration before it, the facts for a later restore after it. Called by
 * shim/main.ts alone, which hands it to the task service.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DUMP_FACTS_FILE, type DumpFacts } from '../../checkpoint/facts.ts';
import { dumpConf } from '../criu-conf.ts';
import { type CudaFiles, cudaHelper, suspendGpu } from '../cuda/index.ts';
import { hostFacts, mountFacts } from '../host-facts.ts';
import { launchOf } from '../launch.ts';
import { mountedFiles } from '../mounted-files.ts';
import { isRunc } from '../runc/runc.ts';
import { readSpec } from '../task/bundle.ts';
import type { OciSpec } from '../task/oci-spec.ts';
import type { DumpInput, PrepareDump } from '../task/start-plan.ts';
import { nodeVersions } from '../versions.ts';
import { hugePagesOf } from './huge-pages.ts';

/** `cuda`: where the program is that takes processes off the GPU. */
export function dumpPreparer(cuda: CudaFiles): PrepareDump {
  return async (input) => {
    const conf = join(input.bundle, 'criu.conf');
    const spec = specOf(input);
    const facts = await dumpFacts(input, spec);
    await writeFile(conf, dumpConf(input), { mode: 0o600 });
    // Last: from here on the workload stands still.
    const gpu = await suspendGpu({ ...input, spec }, () => cudaHelper(cuda, input.runc));
    return {
      extraArgs: [],
      async finish(outcome) {
        const afterResume = await gpu?.finish(outcome);
        if (outcome === 'dumped') {
          const text = JSON.stringify({ ...facts, ...(gpu ? { cuda: gpu.facts } : {}) });
          await writeFile(join(input.imagePath, DUMP_FACTS_FILE), text, { mode: 0o600 });
        }
        await writeFile(conf, '', { mode: 0o600 });
        return afterResume;
      },
    };
  };
}

/** What the container runs with: a program in front of runc may have edited the bundle since. */
function specOf({ spec, bundle, runc }: DumpInput): OciSpec {
  return isRunc(runc.config) ? spec : readSpec(bundle);
}

async function dumpFacts({ spec: asked, runc, pid }: DumpInput, spec: OciSpec): Promise<DumpFacts> {
  const [hugePages, files] = await Promise.all([hugePagesOf(pid), mountedFiles(asked)]);
  return {
    ...(hugePages.length > 0 ? { hugePages } : {}),
    launch: { ...launchOf(asked), ...(files.length > 0 ? { files } : {}) },
    host: await hostFacts(await nodeVersions(runc)),
    mounts: mountFacts(spec),
  };
}
