"""A model server as many write them: PyTorch on the CPU, HTTP, one process, a model held in memory.

The weights (about 540 MB) are drawn from a fixed seed at start, so nothing is downloaded and two servers hold the
same model. An answer is the greedy continuation of the question and a digest of the logits of every step: it depends
on every weight. Talks HTTP/1.0 on port 8080: see Handler.
"""

import hashlib
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import thaw

started = time.monotonic()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

SEED = 20_260_401
VOCABULARY = 8192
WIDTH = 1024
HEADS = 16
LAYERS = 10
NEW_TOKENS = 2


def log(message: str) -> None:
    print(f"{time.monotonic() - started:8.3f} {message}", flush=True)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.norm_mlp = nn.LayerNorm(WIDTH)
        self.widen = nn.Linear(WIDTH, 4 * WIDTH)
        self.narrow = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[0]
        q, k, v = (
            part.view(length, HEADS, WIDTH // HEADS).transpose(0, 1)
            for part in self.qkv(self.norm_attention(x)).split(WIDTH, dim=-1)
        )
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(seen.transpose(0, 1).reshape(length, WIDTH))
        return x + self.narrow(functional.gelu(self.widen(self.norm_mlp(x))))


class Transformer(nn.Module):
    """The embedding is the output head too, so the logits depend on all of its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) + positions(len(tokens))
        for block in self.blocks:
            x = block(x)
        return functional.linear(self.norm(x[-1]), self.embedding.weight)


def positions(length: int) -> torch.Tensor:
    """The sinusoids of "Attention is all you need": positions without weights."""
    angle = torch.arange(length).unsqueeze(1) * torch.exp(
        torch.arange(0, WIDTH, 2) * (-math.log(10_000.0) / WIDTH)
    )
    return torch.stack((angle.sin(), angle.cos()), dim=2).reshape(length, WIDTH)


def load() -> Transformer:
    generator = torch.Generator().manual_seed(SEED)
    with torch.device("meta"):
        model = Transformer()
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for module in model.modules():
            norm = isinstance(module, nn.LayerNorm)
            for name, weights in module.named_parameters(recurse=False):
                weights.normal_(1.0 if norm and name == "weight" else 0.0, 0.05, generator=generator)
    return model.eval()


def answer(model: Transformer, question: str) -> dict[str, object]:
    tokens = list(question.encode()) or [0]
    digest = hashlib.sha256()
    with torch.inference_mode():
        for _ in range(NEW_TOKENS):
            logits = model(torch.tensor(tokens))
            digest.update(logits.numpy().tobytes())
            tokens.append(int(logits.argmax()))
    return {"tokens": tokens[-NEW_TOKENS:], "digest": digest.hexdigest()}


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
                result = answer(self.server.model, query.get("q", [""])[0])
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

    def __init__(self, model: Transformer) -> None:
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
        torch.manual_seed(int.from_bytes(restore.seed_for("torch")[:8], "big"))
        self.pod = restore.pod_name or restore.hostname or self.pod
        log(f"restored in {self.pod}")


def stop(number: int, _frame: object) -> None:
    log(f"stopped by {signal.Signals(number).name}")
    sys.exit(128 + number)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    # The order of sums, and so the last bits of an answer, depends on the number of threads.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    torch.use_deterministic_algorithms(True)
    log(f"PyTorch {torch.__version__} imported")
    model = load()
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    log(f"{size / 1e6:.0f} MB of weights made")
    # As model servers do: the first pass of each size pays for buffers, threads and chosen kernels.
    with torch.inference_mode():
        for length in (1, 16, 32, 64):
            model(torch.zeros(length, dtype=torch.long))
    log("warm")
    server = Server(model)
    log("listening")
    server.serve_forever()


main()
