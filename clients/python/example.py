"""A server that answers with the name of the pod it runs in, also after it was restored in another one.

    python3 example.py [PORT]
"""

import os
import random
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import thaw

# What many programs do once, when they start.
name = os.environ.get("POD_NAME") or socket.gethostname()


def restored(restore: thaw.Restore) -> None:
    global name
    restore.apply()
    name = restore.pod_name or restore.hostname or name


watch = thaw.Watch(restored)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        watch.restored()
        body = f"{name} {random.getrandbits(64):016x}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


HTTPServer(("", int(sys.argv[1]) if len(sys.argv) > 1 else 8080), Handler).serve_forever()
