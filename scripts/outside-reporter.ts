/**
 * A vitest reporter: what failed outside of all cases (a file that does not load, a hook around several cases, an error
 * that nobody caught), which vitest's JSON report does not say. Writes a list of messages to the `outside` of --outputFile.
 */
import { writeFileSync } from 'node:fs';
import type { Reporter, TestModule, Vitest } from 'vitest/node';

interface Failure {
  message: string;
}

export default class OutsideReporter implements Reporter {
  #path = '';

  onInit({ config: { outputFile } }: Vitest): void {
    const path = typeof outputFile === 'object' ? outputFile['outside'] : undefined;
    if (path === undefined) throw new Error('Say where to report to: --outputFile.outside=FILE');
    this.#path = path;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly Failure[]): void {
    const inModules = modules.flatMap((module) => [
      ...module.errors(),
      ...[...module.children.allSuites()].flatMap((suite) => suite.errors()),
    ]);
    writeFileSync(this.#path, JSON.stringify([...unhandled, ...inModules].map(({ message }) => message)));
  }
}
