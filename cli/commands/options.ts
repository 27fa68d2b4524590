import { Option } from 'commander';
import { DAEMON_SOCKET } from '../node/socket.ts';

/** Options that several commands share, so that they read the same everywhere. */
export const plainHttp = () =>
  new Option('--plain-http', 'speak HTTP without TLS to the registry; always so on this machine').default(
    false,
  );

export const hostsDir = () =>
  new Option('--hosts-dir <dir>', "containerd's folder of HOST/hosts.toml: certificates and mirrors").default(
    '/etc/containerd/certs.d',
  );

export const json = () => new Option('--json', 'print JSON instead of text').default(false);

export const daemonSocket = () =>
  new Option('--socket <path>', "thaw-snapshotter's socket").default(DAEMON_SOCKET);
