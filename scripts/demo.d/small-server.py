"""The model server's stand-in without PyTorch: 64 MB of data from a fixed seed, the same HTTP face.

Its model is a table of which byte follows which, counted at start over a part of the data. An answer continues the
question by that table, with a digest of the question and all the data, so every byte of it counts.
"""

import hashlib
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import thaw

SEED = 20_260_401
MEBIBYTES = 64
COUNTED_MEBIBYTES = 16
started = time.monotonic()


def log(message: str) -> None:
    print(f"{time.monotonic() - started:8.3f} {message}", flush=True)


class Model:
    def __init__(self) -> None:
        generator = random.Random(SEED)
        self.blocks = [generator.randbytes(1 << 20) for _ in range(MEBIBYTES)]
        log(f"{MEBIBYTES} MiB of data made")
        pairs: Counter[tuple[int, int]] = Counter()
        for block in self.blocks[:COUNTED_MEBIBYTES]:
            pairs.update(zip(block, block[1:]))
        self.next = {first: second for (first, second), _ in reversed(pairs.most_common())}
        log(f"{len(pairs)} pairs counted")

    def answer(self, question: str) -> dict[str, object]:
        data = question.encode() or b"?"
        digest = hashlib.sha256(data)
        for block in self.blocks:
            digest.update(block)
        continuation = [data[-1]]
        for _ in range(8):
            continuation.append(self.next[continuation[-1]])
        return {"tokens": continuation[1:], "digest": digest.hexdigest()}


class Handler(BaseHTTPRequestHandler):
    """GET /health, GET or POST /answer?q=TEXT, GET /token, GET or POST /token?set=TEXT."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.watch.restored()
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/health":
            self.reply({"ok": True})
        elif url.path == "/answer":
            with self.server.lock:
                self.server.answered += 1
                result = self.server.model.answer(query.get("q", [""])[0])
            log(f"answered {result['digest']}")
            self.reply(
                {**result, "pod": self.server.pod, "pid": os.getpid(), "answered": self.server.answered}
            )
        elif url.path == "/token":
            if "set" in query:
                self.server.token = query["set"][0]
                log("token set")
            self.reply({"token": self.server.token})
        else:
            self.send_error(404)

    do_POST = do_GET

    def reply(self, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, model: Model) -> None:
        super().__init__(("0.0.0.0", 8080), Handler)
        self.model = model
        self.lock = threading.Lock()
        self.answered = 0
        # State that exists in memory only.
        self.token = ""
        # Asked for once, as most programs do: a restored server has to be told that it is another one now.
        self.pod = socket.gethostname()
        self.watch = thaw.Watch(self.restored)

    def restored(self, restore: thaw.Restore) -> None:
        restore.apply()
        self.pod = restore.pod_name or restore.hostname or self.pod
        log(f"restored in {self.pod}")


def stop(number: int, _frame: object) -> None:
    log(f"stopped by {signal.Signals(number).name}")
    sys.exit(128 + number)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    model = Model()
    model.answer("warm")
    log("warm")
    server = Server(model)
    log("listening")
    server.serve_forever()


main()
