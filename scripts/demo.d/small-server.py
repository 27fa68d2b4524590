"""The model server's stand-in without PyTorch: 64 MB of data from a fixed seed, the same HTTP face.

An answer is a digest of the question and all the data, so every byte of it counts.
"""

import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SEED = 20_260_401
MEBIBYTES = 64
started = time.monotonic()


def log(message: str) -> None:
    print(f"{time.monotonic() - started:8.3f} {message}", flush=True)


def answer(blocks: list[bytes], question: str) -> dict[str, object]:
    digest = hashlib.sha256(question.encode())
    for block in blocks:
        digest.update(block)
    return {"digest": digest.hexdigest()}


class Handler(BaseHTTPRequestHandler):
    """GET /health, GET or POST /answer?q=TEXT, GET /token, GET or POST /token?set=TEXT."""

    server: "Server"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/health":
            self.reply({"ok": True})
        elif url.path == "/answer":
            with self.server.lock:
                self.server.answered += 1
                result = answer(self.server.blocks, query.get("q", [""])[0])
            log(f"answered {result['digest']}")
            self.reply({**result, "pid": os.getpid(), "answered": self.server.answered})
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

    def __init__(self, blocks: list[bytes]) -> None:
        super().__init__(("0.0.0.0", 8080), Handler)
        self.blocks = blocks
        self.lock = threading.Lock()
        self.answered = 0
        # State that exists in memory only.
        self.token = ""


def stop(number: int, _frame: object) -> None:
    log(f"stopped by {signal.Signals(number).name}")
    sys.exit(128 + number)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    generator = random.Random(SEED)
    blocks = [generator.randbytes(1 << 20) for _ in range(MEBIBYTES)]
    log(f"{MEBIBYTES} MiB of data made")
    answer(blocks, "warm")
    server = Server(blocks)
    log("listening")
    server.serve_forever()


main()
