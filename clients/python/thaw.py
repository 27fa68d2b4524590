"""Learn that this process was restored from a checkpoint, and who it is now. No dependencies; Python 3.8 or later.

A process that thaw restores goes on where it was saved: with the environment, the host name and the random numbers of
the pod it was saved in. Before it runs, thaw writes the file /run/thaw/restore.json about the pod it is in now.

    def restored(restore):
        restore.apply()
        ...

    watch = thaw.Watch(restored)        # once, when the process starts

    def handle(request):
        watch.restored()                # one stat(2); calls back first after a restore
        ...

Where nothing calls regularly, `thaw.on_restore(callback)` looks ten times a second in a thread of its own.
"""

import hashlib
import json
import os
import random
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

RESTORE_FILE = "/run/thaw/restore.json"

__all__ = ["RESTORE_FILE", "Restore", "Watch", "on_restore"]


class Restore:
    """One restore of this container."""

    def __init__(self, told: Dict[str, Any]) -> None:
        pod = told.get("pod") or {}
        container = told.get("container") or {}
        #: New for each restore.
        self.id: str = told["id"]
        #: RFC 3339.
        self.restored_at: str = told["restoredAt"]
        self.pod_name: Optional[str] = pod.get("name")
        self.pod_namespace: Optional[str] = pod.get("namespace")
        self.pod_uid: Optional[str] = pod.get("uid")
        self.container_name: Optional[str] = container.get("name")
        self.container_id: Optional[str] = container.get("id")
        self.hostname: Optional[str] = told.get("hostname")
        self.addresses: List[str] = told.get("addresses") or []
        #: Of the container now; os.environ is that of the one it was saved in until `apply` is called.
        self.env: Dict[str, str] = told["env"]
        #: 32 random bytes, others for each restore.
        self.seed: bytes = bytes.fromhex(told["seed"])
        #: "id", "created" and "image", as far as they are known.
        self.checkpoint: Dict[str, str] = told.get("checkpoint") or {}

    def seed_for(self, purpose: str) -> bytes:
        """32 bytes for one generator of this process: others for another purpose, another process, another replica."""
        return hashlib.sha256(self.seed + f"\0{os.getpid()}\0{purpose}".encode()).digest()

    def apply(self) -> None:
        """Takes over the new environment, and gives Python's generators new seeds. Those of libraries are yours to do."""
        for name in set(os.environ) - set(self.env):
            del os.environ[name]
        os.environ.update(self.env)
        random.seed(self.seed_for("random"))
        # OpenSSL generates keys in this process, from a state that every replica has.
        ssl = sys.modules.get("ssl")
        if ssl is not None:
            ssl.RAND_add(self.seed_for("ssl"), 32.0)


class Watch:
    """Notices restores that come after it was made.

    Safe to use from several threads: one of them learns of a restore, and the others wait in `restored` while `callback`
    runs, so that none of them works with what is no longer true.
    """

    def __init__(self, callback: Optional[Callable[[Restore], None]] = None, path: str = RESTORE_FILE) -> None:
        self._path = path
        self._callback = callback
        self._lock = threading.Lock()
        self._seen = self._state()
        restore = self._read() if self._seen else None
        self._id = restore.id if restore else None

    def restored(self) -> Optional[Restore]:
        """The restore that has taken place since the last call, or since this object was made."""
        state = self._state()
        # A process that is never restored pays for a stat, and no lock.
        if state == self._seen:
            return None
        with self._lock:
            if state == self._seen:
                return None
            restore = self._read()
            if restore is None or restore.id == self._id:
                self._seen = state
                return None
            if self._callback:
                self._callback(restore)
            self._id = restore.id
            self._seen = state
            return restore

    def wait(self, timeout: Optional[float] = None, interval: float = 0.05) -> Optional[Restore]:
        """Waits for a restore, for `timeout` seconds at most."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            restore = self.restored()
            if restore or (until is not None and time.monotonic() >= until):
                return restore
            time.sleep(interval)

    def _state(self) -> Optional[Tuple[int, int, int]]:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return (found.st_dev, found.st_ino, found.st_mtime_ns)

    def _read(self) -> Optional[Restore]:
        try:
            with open(self._path, encoding="utf-8") as file:
                return Restore(json.load(file))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Not ours, or gone again while the container is being saved.
            return None


def on_restore(
    callback: Callable[[Restore], None], path: str = RESTORE_FILE, interval: float = 0.1
) -> threading.Thread:
    """Calls back after each restore, from a thread that does not keep the process alive."""
    watch = Watch(callback, path)

    def look() -> None:
        while True:
            watch.wait(interval=interval)

    thread = threading.Thread(target=look, name="thaw", daemon=True)
    thread.start()
    return thread
