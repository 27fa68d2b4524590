/** Cases with a short form for every day and the full count for `scripts/test --full`. */
import { it } from 'vitest';

declare module 'vitest' {
  interface TaskMeta {
    /** What a short form left out; scripts/test prints it. */
    notRun?: string;
  }
}

/** `scripts/test --full`. */
export const FULL = process.env['THAW_FULL'] === '1';

export interface Count {
  /** What is counted, for example "containers in a row". */
  what: string;
  short: number;
  full: number;
}

/** `test` is called with how many to do. Each may take two seconds on a busy machine. */
export function longCase(
  title: string,
  { what, short, full }: Count,
  test: (count: number) => Promise<void>,
): void {
  const count = FULL ? full : short;
  it(`${title} (${count} ${what})`, { timeout: 60_000 + count * 2000 }, async ({ task }) => {
    if (!FULL) task.meta.notRun = `short form: ${short} of ${full.toLocaleString('en')} ${what}`;
    await test(count);
  });
}
