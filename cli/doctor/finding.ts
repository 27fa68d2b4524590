/** What a check found: fine, worth knowing, or in the way of a restore. */
export type Status = 'ok' | 'warning' | 'failed';

export interface Finding {
  /** What was looked at, in two or three words. */
  check: string;
  status: Status;
  /** What was seen there. */
  found: string;
  /** What to do, where something is to be done. */
  mend?: string;
}

export const ok = (check: string, found: string): Finding => ({ check, status: 'ok', found });
export const warning = (check: string, found: string, mend: string): Finding => ({
  check,
  status: 'warning',
  found,
  mend,
});
export const failed = (check: string, found: string, mend: string): Finding => ({
  check,
  status: 'failed',
  found,
  mend,
});
