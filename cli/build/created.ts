import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';

/** Seconds since 1970, as reproducible-builds.org has it: the image then does not say when it was made. */
export function createdOf(epoch: string | undefined): Date | undefined {
  if (epoch === undefined || epoch === '') return undefined;
  const created = new Date(Number(epoch) * 1000);
  if (!/^\d+$/.test(epoch) || Number.isNaN(created.getTime()))
    throw new CliError(
      Code.invalidArgument,
      `Cannot use SOURCE_DATE_EPOCH "${epoch}": it must be a number of seconds since 1970`,
    );
  return created;
}
