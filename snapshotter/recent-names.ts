/** Which change last touched a name, for those that are not on disk yet. */
export class RecentNames {
  /** In the order of the changes. */
  readonly #last = new Map<string, number>();

  /** `flushed`: changes that need not be kept any more. */
  touched(names: readonly string[], change: number, flushed: number): void {
    for (const [name, last] of this.#last) {
      if (last > flushed) break;
      this.#last.delete(name);
    }
    for (const name of names) {
      // To the end, also where it is there already.
      this.#last.delete(name);
      this.#last.set(name, change);
    }
  }

  /** 0 where none of those touched it. */
  last(name: string): number {
    return this.#last.get(name) ?? 0;
  }
}
