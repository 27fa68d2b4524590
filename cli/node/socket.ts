/** Where thaw-snapshotter listens unless it is told otherwise: loaded with every command, so nothing else is here. */
export const DAEMON_SOCKET = '/run/thaw/thaw.sock';
