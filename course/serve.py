"""An exported program behind HTTP, on the loopback address. Needs NumPy and JAX; Starlette and uvicorn where it serves.

`python -m course.serve PROGRAM --port 8000`, where PROGRAM is a file of `save`, its manifest beside it. This module
imports nothing of the course: a copy of it beside those two files is a whole service.

| request | answer |
|---|---|
| `GET /health` | what is served, and the limits |
| `POST /predict` with `{"rows": [[…], …]}` | `{"predictions": […]}`, one a row |

What a client did wrong is answered with `{"error": "expected …, got …; …"}`: 422 for bad input, 413 for too long a
body, 408 for too slow a one, 404 and 405 for another address or method. 503 says that the service is busy, 500 that the
model failed. Requests are not joined: each is a batch of its own.
There is no TLS and no login, and a connection that never sends its headers stays: put a proxy in front.

Lesson: 15_ship_it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import jax
import numpy as np
from jax import export

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse

SIZES = (1, 8, 64, 256)


class Model(Protocol):
    """What `application` serves: a `Program`, or the like made of another framework.

    Attributes:
      row: shape of one row.
      rows: how many rows a call takes at most.
    """

    row: tuple[int, ...]
    rows: int

    def __call__(self, x: np.ndarray, /) -> np.ndarray:
        """The predictions of a batch: (n, *row) float32 -> (n, ...), n from 1 to `rows`."""


def save(exported: export.Exported, path: str | Path) -> None:
    """Write a program, and a manifest beside it: its SHA-256, and the version of JAX that wrote it.

    JAX's own format has no checksum, and is read without a look at its version: one flipped bit can end the process or
    give other numbers, and an older JAX may misread what a newer one wrote. `Program` compares both first.

    Lesson: 15_ship_it.

    Args:
      exported: from `jax.export.export(...)(...)`.
      path: of the program; the manifest has the same name with the suffix .json.
    Raises:
      ImportError: flatbuffers is not installed.
      ValueError: the program has operations without a guarantee, or the path the suffix .json.
    """
    path = Path(path)
    if path.suffix == ".json":
        raise ValueError(f"expected a name for the program, got {path.name}; .json is the manifest's, take .jax")
    data = bytes(exported.serialize())
    path.write_bytes(data)
    manifest = {"sha256": hashlib.sha256(data).hexdigest(), "jax": jax.__version_info__}
    path.with_suffix(".json").write_text(json.dumps(manifest) + "\n", "utf-8")


class Program:
    """A saved program, compiled for a few batch sizes; a batch between two of them is padded with zeros.

    Rows must not depend on one another, as they do where a model averages over its batch.

    Lesson: 15_ship_it.

    Attributes:
      row: shape of one row.
      rows: how many rows a call takes at most, the largest size.
      sizes: the batch sizes that are compiled, increasing.
    """

    def __init__(self, path: str | Path, sizes: Sequence[int] = SIZES):
        """Load, compile and try.

        Args:
          path: a file that `save` wrote: one argument (b, ...) float32 with a symbolic b, and one result (b, ...).
          sizes: batch sizes to compile for, each >= 1.
        Raises:
          FileNotFoundError: there is no such file, or no manifest beside it.
          ValueError: the file is another than the manifest says, or no program, or of a newer JAX, for other platforms,
            or it takes other arguments.
          ImportError: flatbuffers is not installed.
        """
        exported = _load(Path(path))
        _require_rows(exported, path)
        self.sizes = tuple(sorted(set(sizes)))
        if not self.sizes or self.sizes[0] < 1:
            raise ValueError(f"expected batch sizes from 1 on, got {tuple(sizes)}; name one at least, such as {SIZES}")
        self.row, self.rows = tuple(exported.in_avals[0].shape[1:]), self.sizes[-1]
        call = jax.jit(exported.call)
        try:
            self._compiled = {
                size: call.lower(jax.ShapeDtypeStruct((size, *self.row), np.float32)).compile() for size in self.sizes
            }
            self(np.zeros((1, *self.row), np.float32))
        except (ValueError, IndexError, RuntimeError) as error:  # what JAX misread comes out here
            raise ValueError(
                f"{path}: expected a program that jax {jax.__version__} compiles here, got: {error}; export it with "
                "the same version of JAX"
            ) from None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Predictions of a batch.

        Args:
          x: (n, *row) float32, n from 1 to `rows`.
        Returns:
          (n, ...), as the program gives it.
        Raises:
          ValueError: another number of rows, or shape of a row.
        """
        if x.ndim == 0 or x.shape[1:] != self.row or not 1 <= len(x) <= self.rows:
            raise ValueError(f"expected 1 to {self.rows} rows of shape {self.row}, got {x.shape}; split the batch")
        size = next(size for size in self.sizes if size >= len(x))
        padded = np.zeros((size, *self.row), np.float32)
        padded[: len(x)] = x
        return np.asarray(self._compiled[size](padded))[: len(x)]


def _load(path: Path) -> export.Exported:
    data, manifest = bytearray(path.read_bytes()), path.with_suffix(".json")
    try:
        said = json.loads(manifest.read_bytes())
        sha256, version = str(said["sha256"]), tuple(map(int, said["jax"]))
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f'{manifest}: expected {{"sha256": "...", "jax": [0, 10, 2]}}, got something else; write both files by '
            "course.serve.save(exported, path)"
        ) from None
    if (got := hashlib.sha256(data).hexdigest()) != sha256:
        raise ValueError(f"{path}: expected the SHA-256 {sha256}, got {got}; copy both files again")
    if version > jax.__version_info__:
        raise ValueError(
            f"{path}: expected a program of jax {jax.__version__} or older, got one of {'.'.join(map(str, version))}; "
            "upgrade JAX here first, then where programs are exported"
        )
    try:
        return export.deserialize(data)
    except (struct.error, LookupError, TypeError, ValueError, AttributeError, OverflowError, NotImplementedError):
        raise ValueError(
            f"{path}: expected a program of jax.export, got {len(data)} bytes of something else; write it by "
            "course.serve.save(exported, path)"
        ) from None


def _require_rows(exported: export.Exported, path: str | Path) -> None:
    platform = jax.default_backend()
    if {"gpu": "cuda"}.get(platform, platform) not in exported.platforms and platform not in exported.platforms:
        raise ValueError(
            f"{path}: expected a program for {platform}, got one for {', '.join(exported.platforms)}; export it with "
            f"platforms=(..., {platform!r})"
        )
    avals, results = exported.in_avals, exported.out_avals
    batch = avals[0].shape[:1] if len(avals) == 1 else ()
    if (
        not batch
        or not export.is_symbolic_dim(batch[0])
        or any(export.is_symbolic_dim(size) for size in avals[0].shape[1:])
        or avals[0].dtype != np.float32
        or [aval.shape[:1] for aval in results] != [batch]
        or results[0].dtype.kind not in "biuf"  # what JSON has
        or (exported.in_tree, exported.out_tree) != (jax.tree.structure(((0,), {})), jax.tree.structure(0))
    ):
        raise ValueError(
            f"{path}: expected one argument (b, ...) float32 and one result (b, ...) of numbers, "
            "neither by name nor within a list or dict, b symbolic, got "
            f"{', '.join(map(str, avals)) or 'none'} -> {', '.join(map(str, results)) or 'none'}; export with "
            'jax.export.symbolic_shape("b")'
        )


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
      body: bytes of a request's body.
      read_s: seconds for it to arrive.
      answer_s: seconds until the answer, the wait for other requests included.
      connections: open at once; more get 503.
      stop_s: seconds that requests get to end when the service is stopped.
    """

    body: int = 1_000_000
    read_s: float = 5.0
    answer_s: float = 5.0
    connections: int = 64
    stop_s: int = 5


class _Refused(Exception):
    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def rows_of(body: bytes, row: tuple[int, ...], most: int) -> np.ndarray:
    """The rows in a request's body.

    Args:
      body: JSON, `{"rows": [...]}`.
      row: shape of one row.
      most: how many rows there may be.
    Returns:
      (n, *row) float32, finite, n from 1 to most.
    Raises:
      ValueError: it is anything else; the text says expected, got, remedy.
    """
    wanted = f"1 to {most} rows of shape {row}"
    remedy = f'send {{"rows": [...]}} with {wanted}'
    try:
        content = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = "lists within lists without an end" if isinstance(error, RecursionError) else str(error)[:100]
        raise ValueError(f"expected JSON, got {len(body)} bytes that are none: {reason}; {remedy}") from None
    if not isinstance(content, dict) or content.keys() != {"rows"}:
        got = f"the keys {sorted(content)[:5]}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f'expected an object with the key "rows", got {got[:100]}; {remedy}')
    if not isinstance(content["rows"], list) or not 1 <= len(content["rows"]) <= most:
        rows = content["rows"]
        got = f"{len(rows)} rows" if isinstance(rows, list) else f"a {type(rows).__name__}"
        raise ValueError(f"expected {wanted}, got {got}; {'split the batch' if rows and 'rows' in got else remedy}")
    try:
        array = np.array(content["rows"], dtype=object)
    except ValueError:  # lists of unequal length
        raise ValueError(f"expected {wanted}, got rows of unequal shapes; {remedy}") from None
    kinds = {type(value).__name__ for value in array.ravel().tolist()}
    if "list" in kinds or array.shape[1:] != row:
        got = "lists of unequal length" if "list" in kinds else f"rows of shape {array.shape[1:]}"
        raise ValueError(f"expected {wanted}, got {got}; {remedy}")
    if strange := sorted(kinds - {"int", "float"}):
        raise ValueError(f"expected numbers, got {', '.join(strange)}; fill gaps and encode text before you ask")
    try:
        with np.errstate(over="ignore"):
            x = array.astype(np.float32)
    except OverflowError:  # an int that no float holds
        x = np.full(1, np.inf, np.float32)
    if not np.isfinite(x).all():
        raise ValueError(f"expected numbers that float32 holds, got larger ones; {remedy}")
    return x


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def application(model: Model, limits: Limits = Limits()) -> Starlette:
    """The service as an ASGI application. Needs Starlette.

    Calls of the model run one by one, in a thread of their own, so that the service answers meanwhile.

    Lesson: 15_ship_it.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    pool = ThreadPoolExecutor(1, "model")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        pool.shutdown(cancel_futures=True)

    async def body_of(request: Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(limits.read_s):
                async for part in request.stream():
                    body += part
                    if len(body) > limits.body:
                        raise _Refused(413, f"expected at most {limits.body} bytes, got more; split the batch")
        except TimeoutError:
            text = f"expected the body within {limits.read_s} s, got {len(body)} bytes of it; send it at once"
            raise _Refused(408, text) from None
        return bytes(body)

    async def predict(request: Request) -> JSONResponse:
        try:
            x = rows_of(await body_of(request), model.row, model.rows)
            waiting = asyncio.get_running_loop().run_in_executor(pool, model, x)
            try:
                y = np.asarray(await asyncio.wait_for(waiting, limits.answer_s))
            except TimeoutError:
                text = f"expected an answer within {limits.answer_s} s, got none: busy; ask again later"
                raise _Refused(503, text) from None
            except Exception as error:
                print(f"the model failed on {len(x)} rows: {error!r}", file=sys.stderr, flush=True)
                text = f"expected predictions, got {type(error).__name__} from the model; the service's log says more"
                raise _Refused(500, text) from None
            if not np.isfinite(y).all():
                raise _Refused(422, "expected rows with finite predictions, got infinity or NaN; send smaller numbers")
            return JSONResponse({"predictions": y.tolist()})
        except ValueError as error:
            return refusal(422, str(error))
        except _Refused as error:
            return refusal(error.status, str(error))
        except ClientDisconnect:
            return refusal(400, "expected a whole body, got a part; ask again")  # nobody reads it

    def refusal(status: int, text: str) -> JSONResponse:
        # of a body that was not read to its end the connection can't be used again
        headers = {"Connection": "close"} if status in (408, 413) else {"Retry-After": "1"} if status == 503 else {}
        return JSONResponse({"error": text}, status, headers)

    async def health(request: Request) -> JSONResponse:
        return JSONResponse(
            {"status": "ok", "row": list(model.row), "rows": model.rows, "body": limits.body, "jax": jax.__version__}
        )

    async def elsewhere(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        got = f"{request.method} {request.url.path}"[:100]
        answer = refusal(error.status_code, f"expected POST /predict or GET /health, got {got}; ask for one of them")
        answer.headers.update(error.headers or {})
        return answer

    routes = [Route("/predict", predict, methods=["POST"]), Route("/health", health, methods=["GET"])]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: elsewhere})


def serve(app: Starlette, port: int = 0, limits: Limits = Limits()) -> None:
    """Serve on the loopback address until SIGTERM or Ctrl-C; requests under way are answered first. Needs uvicorn.

    Args:
      app: from `application`.
      port: 0 for a free one; the address is printed once it is open.
    Raises:
      OSError: the port is taken.
    """
    import uvicorn

    with socket.create_server(("127.0.0.1", port)) as listener:
        # asyncio does it for sockets that name TCP as their protocol, and this one names none; without it an answer
        # waits for the client's acknowledgement of its head, 40 ms
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="on", log_level="warning", access_log=False, proxy_headers=False,
            server_header=False, limit_concurrency=limits.connections, timeout_graceful_shutdown=limits.stop_s,
        )  # fmt: skip
        host, taken = listener.getsockname()
        print(f"serving at http://{host}:{taken}", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 after a graceful stop, 2 where it cannot start."""
    parser = argparse.ArgumentParser(description="Serve a program of jax.export on the loopback address.")
    parser.add_argument("program", type=Path)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)  # also before uvicorn listens for it, and after
    try:
        if not 0 <= options.port < 65536:
            raise ValueError(f"expected a port from 0 to 65535, got {options.port}; 0 takes a free one")
        serve(application(Program(options.program)), options.port)
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        what = f"a program in {error.filename}" if error.filename else f"port {options.port} to be free"
        print(f"expected {what}, got: {error}; name another one", file=sys.stderr)
        return 2
    except (ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _stop(*_: Any) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
