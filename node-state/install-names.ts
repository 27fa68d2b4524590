/** Names below the prefix of installed versions that `thaw install` and the daemon both use; docs/architecture.md has the rest. */

/** In the folder of a version that goes when its last process has ended. */
export const RETIRED = '.retired';
/** flock of an installation, and of whoever removes a version. */
export const INSTALL_LOCK = 'install.lock';
/** Link to the version that is used. */
export const CURRENT = 'current';
