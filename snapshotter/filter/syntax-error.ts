/** A filter that cannot be parsed; says where. */
import { Code } from '../../proto/status.ts';
import { SnapshotError } from '../error.ts';

export class FilterSyntaxError extends SnapshotError {
  constructor(input: string, at: number, problem: string) {
    super(
      Code.invalidArgument,
      `Cannot parse filter [${input.slice(0, at)} >|${input[at] ?? ''}|< ${input.slice(at + 1)}]: ${problem}`,
    );
  }
}
