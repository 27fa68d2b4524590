/** thaw-snapshotter: command line and signals, nothing else. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import pino from 'pino';
import { native } from '../native/index.ts';
import { describeError } from '../proto/status.ts';
import { type Config, loadConfig } from './config.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { inheritedSockets } from './inherited-sockets.ts';
import { notifyReady } from './notify.ts';
import { watchOldVersions } from './old-versions.ts';
import { Successor } from './successor.ts';
import { takeOver } from './take-over.ts';

const DEFAULT_CONFIG = '/etc/thaw/config.toml';
/** For each stage of the daemon that takes over. */
const SUCCESSOR_MS = 30_000;

interface Flags {
  config?: string;
  root?: string;
  state?: string;
  address?: string;
  check?: boolean;
}

const program = new Command('thaw-snapshotter')
  .description('Keeps container snapshots for containerd and fetches checkpoint images')
  .version(process.env['THAW_VERSION'] ?? 'development', '-v, --version')
  .option('--config <file>', `configuration file (default: ${DEFAULT_CONFIG} if it exists)`)
  .option('--root <dir>', 'snapshots, metadata and node cache (default: /var/lib/thaw)')
  .option('--state <dir>', 'directory of the sockets (default: /run/thaw)')
  .option('--address <socket>', 'socket for containerd (default: snapshotter.sock in the state directory)')
  .option('--check', 'print the configuration with all defaults as JSON and end; 1 if it cannot be used')
  .action((flags: Flags) => (flags.check ? check(flags) : run(flags)));

await program.parseAsync();

function readConfig({ config: file, check: _, ...flags }: Flags): Config {
  return loadConfig({ path: file ?? DEFAULT_CONFIG, required: file !== undefined }, flags);
}

function check(flags: Flags): void {
  try {
    process.stdout.write(`${JSON.stringify(readConfig(flags), null, 2)}\n`);
  } catch (error) {
    process.stderr.write(`thaw-snapshotter: ${describeError(error).message}\n`);
    process.exitCode = 1;
  }
}

async function run(flags: Flags): Promise<void> {
  // Every mode below is explicit; this is for what libraries make: sockets and the database.
  process.umask(0o077);
  const { env } = process;
  let log = pino({ name: 'thaw-snapshotter' });
  let config: Config;
  let daemon: Daemon;
  const taken = takeOver(env, process.ppid);
  try {
    config = readConfig(flags);
    log = pino({ name: 'thaw-snapshotter', level: config.log_level });
    daemon = await startDaemon(config, native, log, {
      environment: env,
      sockets: taken?.sockets ?? inheritedSockets(env, process.pid),
      onLoaded: taken && (() => taken.tell('loaded')),
    });
  } catch (error) {
    const { message, context } = describeError(error);
    log.fatal({ error: message, ...context }, 'cannot start');
    process.exitCode = 1;
    return;
  }
  log.info({ root: config.root, address: config.address, state: config.state }, 'ready');
  const tree = dirname(import.meta.dirname);
  // Installed, and not run from a checkout.
  if (existsSync(join(tree, 'VERSION')))
    watchOldVersions(tree, {
      tryLock: native.tryLock,
      onRemoved: (version) => log.info({ version }, 'old version removed'),
      onFailed: (error) => log.warn({ error: describeError(error).message }, 'old versions not looked at'),
    });

  let closing = false;
  let successor: Successor | undefined;
  const failed = (error: unknown) => {
    log.error({ error: describeError(error).message }, 'not stopped cleanly');
    process.exitCode = 1;
  };
  const stop = (signal: NodeJS.Signals) => {
    if (closing) return;
    closing = true;
    successor?.end();
    log.info({ signal }, 'stopping');
    daemon.close().then(() => {
      log.info('stopped');
      // Nothing should keep the process alive now; if something does, it shall not.
      setTimeout(() => process.exit(), 1_000).unref();
    }, failed);
  };
  const handOver = async () => {
    if (closing || successor) return;
    successor = new Successor({
      program: env['THAW_LAUNCHER'] ?? process.execPath,
      args: process.argv.slice(env['THAW_LAUNCHER'] === undefined ? 1 : 2),
      environment: env,
      sockets: daemon.sockets,
      timeoutMs: SUCCESSOR_MS,
    });
    try {
      await successor.reaches('loaded');
    } catch (error) {
      successor = undefined;
      log.error({ error: describeError(error).message }, 'not handed over');
      return;
    }
    if (closing) return;
    closing = true;
    log.info({ to: successor.pid }, 'handing over');
    await daemon.close({ handOver: true });
    // Until then it is the one that systemd watches.
    await successor.reaches('ready');
    process.exit();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.on('SIGHUP', () => {
    handOver().catch((error: unknown) => {
      failed(error);
      process.exit();
    });
  });
  await notifyReady(env, process.pid, (error) =>
    log.warn({ error: describeError(error).message }, 'systemd not notified'),
  );
  taken?.tell('ready');
}
