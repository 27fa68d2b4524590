/** Which labels an Update leaves. Source: containerd, snapshots/storage/bolt.go, UpdateInfo. */
import { invalidArgument } from '../error.ts';
import type { Labels } from './snapshot-info.ts';

/**
 * An empty mask and `labels` replace all of them; `labels.<key>` sets one, or removes it if the new labels have none.
 * INVALID_ARGUMENT for any other path: nothing else of a snapshot can change.
 */
export function updateLabels(current: Labels, given: Labels, mask: readonly string[]): Labels {
  if (mask.length === 0) return given;
  let labels: Record<string, string> = { ...current };
  for (const path of mask) {
    if (path === 'labels') {
      labels = { ...given };
    } else if (path.startsWith('labels.')) {
      const key = path.slice('labels.'.length);
      const value = Object.hasOwn(given, key) ? given[key] : undefined;
      if (value === undefined) delete labels[key];
      else labels[key] = value;
    } else {
      throw invalidArgument(`cannot update "${path}" field: only labels of a snapshot can change`);
    }
  }
  return labels;
}
