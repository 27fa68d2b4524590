/**
 * A vitest reporter: what failed outside of all cases (a file that does not load, a hook around several cases, an error
 * that nobody caught), which vitest's JSON report does not say. Writes a list of `Outside` to the `outside` of --outputFile.
 */
import { writeFileSync } from 'node:fs';
import type { Reporter, TestModule, Vitest } from 'vitest/node';
import type { Outside } from './test-second-try.ts';

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
    const ofFile =
      (file?: string) =>
      ({ message }: Failure): Outside => ({ ...(file === undefined ? {} : { file }), message });
    const inModules = modules.flatMap((module) =>
      [...module.errors(), ...[...module.children.allSuites()].flatMap((suite) => suite.errors())].map(
        ofFile(module.moduleId),
      ),
    );
    writeFileSync(this.#path, JSON.stringify([...unhandled.map(ofFile()), ...inModules]));
  }
}
