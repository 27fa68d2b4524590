/** What the task service knows of a process's streams, whatever they are made of. */
import type { Addon } from '../../native/index.ts';
import type { RuncStdio } from '../task/start-plan.ts';

export type PipeCalls = Pick<Addon, 'pipe' | 'fchown' | 'relayStart' | 'relayStop' | 'relayDrain'>;
export type TerminalCalls = Pick<
  Addon,
  'consoleListen' | 'consoleReceive' | 'consoleCancel' | 'setWindowSize' | 'duplicate'
>;
export type StdioCalls = PipeCalls & TerminalCalls;

export interface StdioOwner {
  uid: number;
  gid: number;
}

export interface ProcessIo {
  /** What runc inherits. */
  readonly childStdio: RuncStdio;
  /** For runc's --console-socket, if the process gets a terminal. */
  readonly consoleSocket: string | undefined;
  /** A second try to make the process must take these streams again, not new ones. Only before `started`. */
  readonly reusable: boolean;
  /**
   * To call when runc made the process and inherited its ends: closes ours and begins to move bytes. Rejects if the
   * process has no terminal though it should.
   */
  started(): Promise<void>;
  /** End of the client's input: the process sees it once the client closed its end too. */
  closeStdin(): void;
  /** The terminal's size in characters; nothing happens where there is none. */
  resize(columns: number, rows: number): void;
  /** The process ended. Others may have its streams still. */
  exited(): void;
  /**
   * After the process exited: waits until all it wrote is with the client, at most `limitMs` (something else may hold the
   * streams open), then closes everything. Idempotent.
   */
  finish(limitMs: number): Promise<void>;
  /** Closes everything now; what is already here is still moved as far as the client's end takes it. Idempotent. */
  close(): Promise<void>;
}
