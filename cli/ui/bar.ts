import { formatBytes, formatMs } from './format.ts';

/** One moment of a step; pure, so that how it looks can be tested. */
export interface StepView {
  label: string;
  done: number;
  /** Undefined where nobody knows how much there is to do. */
  total: number | undefined;
  elapsedMs: number;
}

const BAR_WIDTH = 24;

function share(view: StepView): number | undefined {
  if (view.total === undefined || view.total <= 0) return undefined;
  return Math.min(1, Math.max(0, view.done / view.total));
}

function amount(view: StepView): string {
  if (view.total !== undefined) return `${formatBytes(view.done)} of ${formatBytes(view.total)}`;
  return view.done > 0 ? formatBytes(view.done) : '';
}

function rate(view: StepView): string {
  return view.done > 0 && view.elapsedMs >= 500
    ? `${formatBytes((view.done * 1000) / view.elapsedMs)}/s`
    : '';
}

/** For a terminal: never longer than its width, so that it stays on one line. */
export function renderBar(view: StepView, columns: number): string {
  const part = share(view);
  const cells: string[] = [];
  if (part !== undefined) {
    const full = Math.floor(part * BAR_WIDTH);
    cells.push(`[${'='.repeat(full)}${' '.repeat(BAR_WIDTH - full)}]`, `${Math.floor(part * 100)} %`);
  }
  cells.push(amount(view), rate(view), formatMs(view.elapsedMs));
  const line = `${view.label}  ${cells.filter((cell) => cell !== '').join('  ')}`;
  return line.slice(0, Math.max(1, columns - 1));
}

/** For a log: the same facts in words. */
export function renderLine(view: StepView): string {
  const part = share(view);
  const percent = part === undefined ? '' : `${Math.floor(part * 100)} %`;
  const facts = [percent, amount(view), rate(view)].filter((fact) => fact !== '').join(', ');
  return `${view.label}: ${facts || formatMs(view.elapsedMs)}`;
}
