"""How fast does a shipped model answer? jax.export beside torch.export of the same weights, called and over HTTP.

The Titanic network, one row and many. Over HTTP the same service (`course.serve`) holds either program; server and
client are threads of this process, so what a request costs there is both sides of it. Lesson: 15_ship_it.
"""

import http.client
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import uvicorn
from flax import nnx
from jax import export

from benchmarks import harness
from benchmarks.harness import Contender, Ratio
from course import porting, serve
from course.train import titanic_nnx, titanic_torch

SEED = 0


@dataclass(frozen=True)
class Sizes:
    rows: tuple[int, ...] = (1, 64, 256)
    rounds: int = 21
    calls: int = 50
    requests: int = 20


QUICK = Sizes(rows=(1, 8), rounds=1, calls=2, requests=2)


class TorchModel(torch.nn.Module):
    """The probability, not the logit."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.model(x))


class TorchProgram:
    """A file of torch.export as `course.serve` wants a model."""

    def __init__(self, path: Path, row: tuple[int, ...], rows: int) -> None:
        self.module, self.row, self.rows = torch.export.load(path).module(), row, rows
        self.threads = torch.get_num_threads()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        torch.set_num_threads(self.threads)  # a thread's own setting, and the service calls from another one
        with torch.inference_mode():
            return self.module(torch.from_numpy(x)).numpy()


def ship(folder: Path, rows: tuple[int, ...]) -> tuple[TorchModel, TorchProgram, serve.Program, export.Exported]:
    """The same weights on both sides, exported and read again."""
    torch.manual_seed(SEED)
    weights = titanic_torch.TitanicMLP().eval()
    model = porting.torch_to_nnx(weights, titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED)))
    (b,) = export.symbolic_shape("b")
    predict = jax.jit(lambda x: jax.nn.sigmoid(model(x)))
    serve.save(export.export(predict)(jax.ShapeDtypeStruct((b, 15), jnp.float32)), folder / "m.jax")
    eager, open_batch = TorchModel(weights), {0: torch.export.Dim("b")}
    example = torch.zeros(2, 15)
    torch.export.save(torch.export.export(eager, (example,), dynamic_shapes=(open_batch,)), folder / "m.pt2")
    exported = export.deserialize(bytearray((folder / "m.jax").read_bytes()))
    return eager, TorchProgram(folder / "m.pt2", (15,), max(rows)), serve.Program(folder / "m.jax", rows), exported


@contextmanager
def running(model: serve.Model) -> Iterator[Callable[[str], bytes]]:
    """A service on a free port of the loopback address; what comes out asks it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # without log_config: uvicorn's own closes the handlers of everybody else in the process
        app = serve.application(model)
        config = uvicorn.Config(app, http="h11", ws="none", log_config=None, log_level="error", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        link = http.client.HTTPConnection(*listener.getsockname(), timeout=30)
        try:
            while not server.started:
                time.sleep(0.01)
            yield partial(_ask, link)
        finally:
            link.close()
            server.should_exit = True
            thread.join()


def _ask(link: http.client.HTTPConnection, body: str) -> bytes:
    link.request("POST", "/predict", body)
    answer = link.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise SystemExit(f"expected predictions, got {answer.status} {content.decode()}")
    return content


def check(name: str, got: np.ndarray, expected: np.ndarray) -> None:
    """float32, the same probabilities."""
    gap = float(np.abs(np.asarray(got) - expected).max())
    if not gap < 1e-6:
        raise SystemExit(f"expected {name} to agree within 1e-6, got a gap of {gap:.1e}")


def table(sides: list[Contender], rows: int, title: str) -> tuple[list[dict], dict[str, Contender]]:
    """Rounds in turns; latency in microseconds, throughput in rows a second."""
    done = harness.interleave(sides, title)
    return [
        {
            "name": f"{name}, {rows} rows", "median_us": 1e6 * side.median, "min_us": 1e6 * min(side.seconds),
            "rows_per_s": rows / side.median, "first_call_us": 1e6 * side.first_s,
        }
        for name, side in done.items()
    ], done  # fmt: skip


def bench(quick: bool) -> tuple[dict[str, list[dict]], list[Ratio]]:
    sizes = QUICK if quick else Sizes()
    called: list[dict] = []
    asked: list[dict] = []
    ratios: list[Ratio] = []
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        eager, torch_program, program, exported = ship(Path(scratch).resolve(), sizes.rows)
        jitted = jax.jit(exported.call)
        with running(torch_program) as ask_torch, running(program) as ask_jax:
            for rows in sizes.rows:
                x = np.random.default_rng(SEED).normal(size=(rows, 15)).astype(np.float32)
                tensor, body, expected = torch.from_numpy(x), json.dumps({"rows": x.tolist()}), program(x)
                ways: dict[str, Callable[[], object]] = {
                    "torch eager": partial(eager, tensor),
                    "torch.export": partial(torch_program.module, tensor),
                    "jax.export, .call": partial(exported.call, x),
                    "jax.export under jit": partial(jitted, x),
                    "compiled, padded (course.serve)": partial(program, x),
                }
                for name, way in ways.items():
                    check(name, np.asarray(way()), expected)
                few = max(1, sizes.calls // 10)  # .call prepares every call in Python
                calls = {name: few if ".call" in name else sizes.calls for name in ways}
                contenders = [Contender(n, tuple, w, rounds=sizes.rounds, calls=calls[n]) for n, w in ways.items()]
                found, done = table(contenders, rows, f"called, {rows} rows")
                called += found
                best = done["torch.export"].median / done["compiled, padded (course.serve)"].median
                ratios.append(Ratio(f"{rows} rows: torch.export / jax.export, compiled", best))
                services = {"torch.export": ask_torch, "jax.export": ask_jax}
                for name, ask in services.items():
                    check(name, np.float32(json.loads(ask(body))["predictions"]), expected)
                contenders = [
                    Contender(name, tuple, partial(ask, body), rounds=sizes.rounds, calls=sizes.requests)
                    for name, ask in services.items()
                ]
                found, done = table(contenders, rows, f"over HTTP, {rows} rows")
                asked += found
                best = done["torch.export"].median / done["jax.export"].median
                ratios.append(Ratio(f"{rows} rows over HTTP: torch.export / jax.export", best))
    return {"called": called, "over HTTP": asked}, ratios


def main() -> None:
    harness.command("serving", bench)


if __name__ == "__main__":
    main()
