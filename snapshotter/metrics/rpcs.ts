/** What containerd asked for. */
import { Counter, Histogram, type Registry } from 'prom-client';
import { Code } from '../../proto/status.ts';

export const SNAPSHOT_RPCS = [
  'Prepare',
  'View',
  'Mounts',
  'Commit',
  'Remove',
  'Stat',
  'Update',
  'List',
  'Usage',
  'Cleanup',
] as const;
export type SnapshotRpc = (typeof SNAPSHOT_RPCS)[number];

/** As gRPC's own metrics name them: "NotFound". */
const NAMES = new Map<number, string>(
  Object.entries(Code).map(([name, code]) => [
    code,
    code === Code.ok ? 'OK' : name.charAt(0).toUpperCase() + name.slice(1),
  ]),
);

export class RpcMetrics {
  readonly #calls: Counter<'rpc' | 'code'>;
  readonly #seconds: Histogram<'rpc'>;

  constructor(registers: Registry[]) {
    this.#calls = new Counter({
      name: 'thaw_snapshot_rpcs_total',
      help: 'Calls of the Snapshots service that were answered',
      labelNames: ['rpc', 'code'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'thaw_snapshot_rpc_seconds',
      help: 'How long calls of the Snapshots service took',
      labelNames: ['rpc'],
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
      registers,
    });
    for (const rpc of SNAPSHOT_RPCS) {
      this.#calls.inc({ rpc, code: 'OK' }, 0);
      this.#seconds.zero({ rpc });
    }
  }

  answered(rpc: SnapshotRpc, code: Code, ms: number): void {
    this.#calls.inc({ rpc, code: NAMES.get(code) ?? 'Unknown' });
    this.#seconds.observe({ rpc }, ms / 1000);
  }
}
