/**
 * Files of test/ that prove the same under either containerd: they speak with none, or only to have something to restore.
 * Each runs in one of the two nodes, which then take about as long as each other.
 */
export const ONE_SUITE: Readonly<Record<'forky' | 'trixie', readonly string[]>> = {
  forky: [
    'test/build.test.ts',
    'test/cli-errors.test.ts',
    'test/convert.test.ts',
    'test/faults.test.ts',
    'test/gpu.test.ts',
    'test/lazy-crash.test.ts',
    'test/lazy-layers.test.ts',
    'test/lazy-reboot.test.ts',
    'test/lazy-requests.test.ts',
    'test/lazy-restore.test.ts',
    'test/lazy-trees.test.ts',
    'test/pods.test.ts',
    'test/shim-stdio.test.ts',
  ],
  trixie: [
    'test/cli.test.ts',
    'test/demand.test.ts',
    'test/identity.test.ts',
    'test/lazy-conformance.test.ts',
    'test/metrics.test.ts',
    'test/registries.test.ts',
    'test/shim-resources.test.ts',
    'test/snapshotter-crash.test.ts',
    'test/snapshotter-load.test.ts',
    'test/snapshotter.test.ts',
    'test/trial.test.ts',
  ],
};

/** What does not run in a node; nothing where `shared` is not set: there is no other node, or everything is to run. */
export function leftToOther(node: string | undefined, shared: boolean): readonly string[] {
  if (!shared) return [];
  if (node === 'forky') return ONE_SUITE.trixie;
  return node === 'trixie' ? ONE_SUITE.forky : [];
}

/** For the summary of scripts/test. */
export function describeShared(): string[] {
  const names = (files: readonly string[]) =>
    files.map((file) => file.replace(/^test\/(.*)\.test\.ts$/, '$1')).join(', ');
  return [
    `short form: ${names(ONE_SUITE.forky)} under containerd 2.1 only`,
    `short form: ${names(ONE_SUITE.trixie)} under containerd 1.7 only`,
  ];
}
