import { RecordKey, readRecords, type StartRecord } from '../../node-state/start-records.ts';
import { Code } from '../../proto/status.ts';
import type { WhyOptions } from '../commands/handlers.ts';
import type { Context } from '../context.ts';
import { CliError } from '../error.ts';
import { formatMs, formatTable, printable } from '../ui/format.ts';
import { toJson } from '../ui/json.ts';

/** Without a pod. */
const LAST = 20;
/** Fewer characters of an id say little. */
const ID_CHARACTERS = 4;

/** `thaw why`. `dir`: where shims write; its default is theirs. */
export async function runWhy(
  options: WhyOptions,
  context: Pick<Context, 'print'>,
  dir?: string,
): Promise<void> {
  const records = read(dir);
  const found = options.pod === undefined ? records.slice(-LAST) : startsOf(records, options.pod);
  if (options.json) context.print(toJson({ apiVersion: 'v1', kind: 'List', items: found }));
  else for (const line of whyLines(found)) context.print(line);
}

function read(dir?: string): StartRecord[] {
  try {
    return readRecords(dir);
  } catch (cause) {
    throw new CliError(
      Code.permissionDenied,
      'Cannot read what this node remembers of its starts; run it as root',
      {
        cause,
      },
    );
  }
}

/** Throws notFound if there is none. */
export function startsOf(records: readonly StartRecord[], pod: string): StartRecord[] {
  const found = records.filter(({ metadata, involvedObject: { namespace, name, uid } }) => {
    const id = metadata.annotations[RecordKey.container] ?? '';
    const isId = pod.length >= ID_CHARACTERS && id.startsWith(pod);
    return pod === name || pod === `${namespace}/${name}` || pod === uid || isId;
  });
  if (found.length > 0) return found;
  throw new CliError(
    Code.notFound,
    `Cannot find a start of ${printable(pod)} here: it ran on another node, under another runtime class, from an image without a checkpoint, or too long ago; 'thaw why' shows what there is`,
  );
}

/** A table, with the reasons of each start below it. */
export function whyLines(records: readonly StartRecord[]): string[] {
  if (records.length === 0) return ['No container with a checkpoint was started on this node'];
  const rows = records.map((record) => {
    const { involvedObject: object, metadata, reason, firstTimestamp } = record;
    const { annotations } = metadata;
    return [
      firstTimestamp.replace('T', ' ').replace(/\.\d+Z$/, 'Z'),
      `${object.namespace}/${object.name}`,
      /\{(.*)\}/.exec(object.fieldPath ?? '')?.[1] ?? '',
      (annotations[RecordKey.container] ?? '').slice(0, 12),
      reason,
      tookOf(annotations[RecordKey.times]),
    ].map(printable);
  });
  const [head = '', ...lines] = formatTable(['TIME', 'POD', 'CONTAINER', 'ID', 'OUTCOME', 'TOOK>'], rows);
  return [
    head,
    ...lines.flatMap((line, i) => [
      line,
      ...reasonsOf(records[i]).map((reason) => `    ${printable(reason)}`),
    ]),
  ];
}

function reasonsOf(record: StartRecord | undefined): string[] {
  const parsed = parse(record?.metadata.annotations[RecordKey.reasons]);
  return Array.isArray(parsed) ? parsed.map(String) : [];
}

/** Of all phases together. */
function tookOf(times: string | undefined): string {
  const parsed = parse(times);
  if (typeof parsed !== 'object' || parsed === null) return '–';
  return formatMs(Object.values(parsed).reduce((sum: number, ms) => sum + Number(ms), 0));
}

function parse(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '');
  } catch {
    return undefined;
  }
}
