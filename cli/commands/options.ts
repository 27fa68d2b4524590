import { Option } from 'commander';

/** Options that several commands share, so that they read the same everywhere. */
export const plainHttp = () =>
  new Option('--plain-http', 'speak HTTP without TLS to the registry; always so on this machine').default(
    false,
  );

export const json = () => new Option('--json', 'print JSON instead of text').default(false);

export const daemonSocket = () =>
  new Option('--socket <path>', "thaw-snapshotter's socket").default('/run/thaw/thaw.sock');
