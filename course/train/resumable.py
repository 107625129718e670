"""Runs that survive being killed: checkpoints on Orbax, the two newest kept, refused where they do not fit.

A checkpoint is written beside the one before it, which is removed only once the new one is whole. It holds the arrays
of a state, their checksum, the seconds spent so far, and what makes the run what it is.

In several processes (`course.launch`) each makes the same calls at the same steps. Process 0 locks the folder, which
all must see; each writes and reads its own shards; what one notes (a signal, the time, a damaged file) all obey at the
same step. Neither the number of processes nor the sharding is part of a checkpoint: it is read as the state that
`restore` is given is laid out. Needs NumPy, JAX, Orbax and filelock. Lesson: 19_million_dimensions, and 14 for several.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any, TypeVar

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

State = TypeVar("State")  # a pytree of arrays and PRNG keys
Arrays = Mapping[str, np.ndarray | jax.Array]  # of NumPy's where this process has all of it


class StoppedError(Exception):
    """The process was asked to stop; the state of `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step} and saved; the same command continues from there")
        self.step = step


class SettingError(ValueError):
    """A folder holds checkpoints of another run; `differences` maps what differs to (there, here)."""

    def __init__(self, folder: Path, differences: dict[str, tuple[Any, Any]]):
        listed = "; ".join(f"{name}: {there!r} there, {here!r} here" for name, (there, here) in differences.items())
        super().__init__(
            f"expected checkpoints of this run in {folder}, got those of another ({listed}); take another folder, or "
            "remove this one to begin anew"
        )
        self.differences = differences


class FolderError(OSError):
    """A folder that cannot be made, read or written, or that not all processes see."""


class DamagedError(FolderError):
    """A checkpoint is not what was saved."""


class BusyError(FolderError):
    """Another process is at work in the folder."""


class Run:
    """One run in one folder: `with Run(folder, setting) as run`, then `restore`, and `after` each piece of work.

    Inside the block the folder is locked (a process that dies lets go of it), and SIGINT and SIGTERM are noted and
    obeyed by the next `after`, which saves first; a second SIGINT is obeyed at once. At its end the handlers are put
    back.

    Args:
      folder: where checkpoints are kept; made if there is none.
      setting: what makes the run what it is, by name: equation, seed, optimizer, schedule; values that JSON has. The
        versions of Python, jax, jaxlib and optax, and the state's shapes and dtypes, are added.
      every_s: seconds between two checkpoints.
    Raises:
      FolderError: it cannot be used; BusyError where another process is at work in it.
      TypeError: a value of the setting is none that JSON has.
    """

    def __init__(self, folder: Path | str, setting: Mapping[str, Any], *, every_s: float = 600.0):
        self.folder, self.every_s = Path(folder).resolve(), every_s
        versions = {package: version(package) for package in ("jax", "jaxlib", "optax")}
        self.setting: dict[str, Any] = _plain({**setting, "Python": platform.python_version(), **versions})
        self.stopping = False
        self._spent, self._begun, self._saved_at = 0.0, perf_counter(), perf_counter()

    def __enter__(self) -> Run:
        self._lock = filelock.FileLock(self.folder / "lock")
        problem: FolderError | None = None
        if jax.process_index() == 0:
            try:
                with self._expecting("to write into"):
                    self.folder.mkdir(parents=True, exist_ok=True)
                    self._lock.acquire(timeout=0)
            except filelock.Timeout:
                problem = BusyError(
                    f"expected one process at a time in {self.folder}, got a second one; wait for the other, or take "
                    "another folder"
                )
            except FolderError as error:
                problem = error
        if _any(problem is not None)[0]:
            raise problem or FolderError(f"process 0 could not take {self.folder}; its own lines say why")
        try:
            if _any(not self.folder.is_dir())[0]:
                raise FolderError(f"expected a folder that all processes see, got {self.folder}; take a shared disk")
            self._manager = self._open()
        except FolderError:
            self._lock.release()
            raise
        self._handlers = {}
        if threading.current_thread() is threading.main_thread():  # Python lets no other handle signals
            self._handlers = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._manager.close()
        self._lock.release()

    @property
    def seconds(self) -> float:
        """Seconds spent on the run, those of earlier processes up to their last checkpoints included."""
        return self._spent + perf_counter() - self._begun

    def restore(self, state: State) -> State:
        """The newest state that was saved, or the one given where there is none.

        Args:
          state: as the run begins; the saved one has its structure, shapes and dtypes.
        Raises:
          SettingError: the checkpoints are another run's.
          DamagedError: there are checkpoints, and none is whole. They are moved to `damaged` in the folder.
        Warns:
          UserWarning: the newest checkpoint is damaged, and the one before it is taken.
        """
        if not hasattr(self, "_manager"):
            raise FolderError(
                f"expected a run that is open, got {self.folder} outside of its block; `with Run(...) as run:`"
            )
        if not hasattr(self, "_manager"):
            raise FolderError(f"expected an open run, got {self.folder} outside of its block; `with Run(...) as run:`")
        problems: list[str] = []
        for step in self._steps():
            try:
                found, self._spent = self._load(step, state)
            except DamagedError as error:
                problems.append(f"that of step {step} is damaged ({error})")
                self._set_aside(step)
                continue
            if problems:
                warnings.warn(f"{'; '.join(problems)}; continuing from step {step}", stacklevel=2)
            return found
        if problems:
            raise DamagedError(
                f"expected a whole checkpoint in {self.folder}, got none: {'; '.join(problems)}; they are now in "
                f"{self.folder / 'damaged'}, and the next start begins anew"
            )
        return state

    def after(self, step: int, state: Any) -> None:
        """Save if it is time to, or if the process was asked to stop; in several processes, if one of them was.

        Raises:
          StoppedError: it was, and the state is saved.
          FolderError: as `save` does.
        """
        time = perf_counter() - self._saved_at >= self.every_s
        self.stopping, time = _any(self.stopping, time)
        if self.stopping or time:
            self.save(step, state)
        if self.stopping:
            raise StoppedError(step)

    def save(self, step: int, state: Any) -> None:
        """Write a checkpoint, unless there is one of this step; the third newest is removed then.

        Raises:
          FolderError: it cannot be written (a full disk, a folder that one may only read, a process that has ended);
            those before it are as they were.
        """
        if step not in self._steps():
            arrays = _arrays(state)
            content = {"setting": self._of(arrays), "seconds": self.seconds, "checksum": _checksum(arrays)}
            about = {"content": content, "sha256": _sha256(content)}
            items = ocp.args.Composite(arrays=ocp.args.PyTreeSave(_filled(arrays)), about=ocp.args.JsonSave(about))
            with self._expecting(f"room and permission for the checkpoint of step {step} in"):
                self._manager.save(step, args=items, force=True)
        self._saved_at = perf_counter()

    def remove(self) -> None:
        """Remove all checkpoints: the run is over, and its result is written."""
        self._manager.close()
        if jax.process_index() == 0:
            with self._expecting("to remove the checkpoints in"):
                shutil.rmtree(self.folder / "checkpoints")
        self._manager = self._open()

    def _steps(self) -> list[int]:
        """Those that process 0 sees, the newest first."""
        steps = sorted(self._manager.all_steps(), reverse=True)
        if jax.process_count() == 1:
            return steps
        count = int(multihost_utils.broadcast_one_to_all(np.int32(len(steps))))
        halves = np.array((steps + [0] * count)[:count], np.uint64).view(np.uint32)  # JAX may have 32 bits only
        return multihost_utils.broadcast_one_to_all(halves).view(np.uint64).tolist()

    def _open(self) -> ocp.CheckpointManager:
        # half-written ones of a killed run; none opens what another still removes or makes
        (left,) = _any(any(self.folder.glob("checkpoints/*orbax-checkpoint-tmp*")))
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=left, create=True
        )
        with self._expecting("a folder of checkpoints in"):
            (self.folder / "checkpoints").mkdir(exist_ok=True)  # says so where that is a file
            return ocp.CheckpointManager(self.folder / "checkpoints", options=options)

    @contextmanager
    def _expecting(self, what: str) -> Iterator[None]:
        try:
            yield
        except (FolderError, filelock.Timeout):
            raise
        except (OSError, ValueError, RuntimeError) as error:  # the system's, Orbax's and TensorStore's, and JAX's
            raise FolderError(
                f"expected {what} {self.folder}, got {_first_line(error)}; mend that, or take another folder"
            ) from error

    def _reader(self) -> ocp.CheckpointManager:
        """One that waits for no other process: a file that one cannot read must not keep the others waiting."""
        if jax.process_count() == 1:
            return self._manager
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"reader_{me}"
        )
        options = ocp.CheckpointManagerOptions(
            enable_async_checkpointing=False, create=False, multiprocessing_options=alone
        )
        return ocp.CheckpointManager(self.folder / "checkpoints", options=options)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopping = True

    def _of(self, arrays: Arrays) -> dict[str, Any]:
        return {**self.setting, **{f"state{path}": f"{a.dtype} {a.shape}" for path, a in arrays.items()}}

    def _load(self, step: int, like: State) -> tuple[State, float]:
        arrays = _arrays(like)
        problem, found, content = "", dict(arrays), {}
        try:
            reader = self._reader()
            content = self._about(reader, step)
            saved, wanted = content["setting"], self._of(arrays)
            differences = {
                name: (saved.get(name), wanted.get(name))
                for name in sorted({*saved, *wanted})
                if saved.get(name) != wanted.get(name)
            }
            if differences:
                raise SettingError(self.folder, differences)
            for path, array in _filled(arrays).items():  # one by one: of several, the others outlive a read that fails
                item = ocp.args.PyTreeRestore(item={path: array}, restore_args={path: _as(array)}, partial_restore=True)
                found |= self._read(reader, step, arrays=item)
        except DamagedError as error:
            problem = str(error) or "unreadable"
        if _any(bool(problem))[0]:
            raise DamagedError(problem or "another process could not read it")
        if not _is_sum_of(content, found):
            raise DamagedError("its arrays do not have their checksum")
        return _with_arrays(like, found), content["seconds"]

    def _about(self, reader: ocp.CheckpointManager, step: int) -> dict[str, Any]:
        about = self._read(reader, step, about=ocp.args.JsonRestore())
        content = about.get("content") if isinstance(about, dict) else None
        if not isinstance(content, dict) or about.get("sha256") != _sha256(content):
            raise DamagedError("its description does not have its checksum")
        return content

    def _read(self, reader: ocp.CheckpointManager, step: int, **item: ocp.args.CheckpointArgs) -> Any:
        try:
            return next(iter(reader.restore(step, args=ocp.args.Composite(**item)).values()))
        except PermissionError as error:  # which says nothing of the checkpoint
            raise FolderError(f"expected to read {self.folder}, got {_first_line(error)}; get leave for it") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedError(_first_line(error)) from error  # what Orbax, TensorStore and json make of it

    def _set_aside(self, step: int) -> None:
        _any()  # all have read it
        if jax.process_index() == 0:
            aside = self.folder / "damaged" / str(step)
            shutil.rmtree(aside, ignore_errors=True)
            with self._expecting(f"to move the checkpoint of step {step} to {aside} in"):
                aside.parent.mkdir(exist_ok=True)
                (self.folder / "checkpoints" / str(step)).rename(aside)
        self._manager.close()
        self._manager = self._open()


def _first_line(error: Exception) -> str:
    system = re.search(r"os_error_code='(\d+)'", str(error))  # in the midst of what TensorStore says
    text = os.strerror(int(system[1])) if system else str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text:.200}"


def _plain(value: Any) -> Any:
    """A value as JSON gives it back: a tuple becomes a list."""
    return json.loads(json.dumps(value))


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _any(*noted: bool) -> tuple[bool, ...]:
    """Which of these some process has noted; all wait for all."""
    if jax.process_count() == 1:
        return noted
    return tuple(bool(flag) for flag in multihost_utils.process_allgather(np.array([*noted, False])).any(0)[:-1])


def _checksum(arrays: Arrays) -> str:
    """A hash of paths, dtypes, shapes and numbers, whoever holds which of them.

    An array's numbers, as integers, are added up modulo 2^64, each multiplied by an odd number of its place: parts of
    the sum can be computed wherever the shards are, and another number anywhere makes another sum.
    """
    sums = np.zeros(len(arrays), np.uint64)
    for i, path in enumerate(sorted(arrays)):
        for place, part in _parts(arrays[path]):
            sums[i : i + 1] += _weighted(part, place, arrays[path].shape)
    if jax.process_count() > 1:
        sums = multihost_utils.process_allgather(sums.view(np.uint32)).view(np.uint64).sum(0, dtype=np.uint64)
    total = hashlib.sha256()
    for path, value in zip(sorted(arrays), sums, strict=True):
        total.update(f"{path} {arrays[path].dtype} {arrays[path].shape} {value}".encode())
    return total.hexdigest()


def _parts(array: np.ndarray | jax.Array) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """The parts that this process answers for, with their places; each part has one process."""
    if isinstance(array, np.ndarray):
        if jax.process_index() == 0:
            yield tuple(slice(0, size) for size in array.shape), array
        return
    for shard in array.addressable_shards:
        if shard.replica_id == 0:
            yield shard.index, np.asarray(shard.data)


PIECE = 2**20  # numbers that are weighted at once: each takes some 30 bytes meanwhile


def _weighted(part: np.ndarray, place: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """A part's sum modulo 2^64, (1,): an array, for NumPy warns where a scalar overflows."""
    if part.size > PIECE and len(part) > 1:
        start, stop, _ = place[0].indices(shape[0])
        middle = (start + stop) // 2
        head, tail = (slice(start, middle), *place[1:]), (slice(middle, stop), *place[1:])
        return _weighted(part[: middle - start], head, shape) + _weighted(part[middle - start :], tail, shape)
    weights = np.ones((), np.uint64)
    stride = 2 * 0x9E3779B97F4A7C15  # even: with the one added, every weight is odd
    for axis in reversed(range(len(shape))):
        start, stop, _ = place[axis].indices(shape[axis])
        along = np.arange(start, stop, dtype=np.uint64) * np.uint64(stride % 2**64)
        weights = weights + along.reshape(-1, *[1] * (len(shape) - 1 - axis))
        stride *= shape[axis]
    width = min(part.dtype.itemsize, 8)  # a complex number is two
    bits = np.ascontiguousarray(part).reshape(-1).view(f"u{width}").reshape(weights.size, part.dtype.itemsize // width)
    products = bits.astype(np.uint64) * weights.reshape(-1, 1) * np.arange(1, 2 * bits.shape[1], 2, dtype=np.uint64)
    return products.reshape(-1).sum(keepdims=True)


def _is_sum_of(content: Mapping[str, Any], arrays: Arrays) -> bool:
    """Do these arrays have the checksum that a description names?"""
    if "checksum" in content:
        return bool(content["checksum"] == _checksum(arrays))
    total = hashlib.sha256()  # as this module wrote it when it knew one process only
    for path in sorted(arrays):
        array = arrays[path]
        whole = array if isinstance(array, np.ndarray) else multihost_utils.process_allgather(array, tiled=True)
        total.update(f"{path} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(whole).view(np.uint8).data)
    return bool(content["sha256"] == total.hexdigest())


def _arrays(state: Any) -> dict[str, np.ndarray | jax.Array]:
    """The leaves of a state by their paths; a PRNG key as its numbers."""

    def numbers(leaf: Any) -> np.ndarray | jax.Array:
        leaf = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        spread = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        return leaf if spread else np.asarray(leaf)

    return {jax.tree_util.keystr(path): numbers(leaf) for path, leaf in jax.tree.leaves_with_path(state)}


def _as(array: np.ndarray | jax.Array) -> ocp.RestoreArgs:
    """How to read an array: with the shape, dtype and sharding of this one."""
    if isinstance(array, np.ndarray):
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=array.sharding, global_shape=array.shape, dtype=array.dtype)


def _filled(arrays: Arrays) -> dict[str, np.ndarray | jax.Array]:
    """Those that have an entry; Orbax takes no others."""
    return {path: array for path, array in arrays.items() if array.size}


def _with_arrays(like: State, arrays: Arrays) -> State:
    """A state of the same structure, laid out in the same way, with these leaves."""

    def leaf(path: tuple[Any, ...], old: Any) -> jax.Array:
        new = arrays[jax.tree_util.keystr(path)]
        if isinstance(new, np.ndarray):
            new = jnp.array(new)
        new = jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new
        placed = isinstance(old, jax.Array) and isinstance(old.sharding, jax.sharding.NamedSharding)
        return jax.device_put(new, old.sharding) if placed else new

    return jax.tree.map_with_path(leaf, like)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(leaf).dtype if not hasattr(leaf, "dtype") else leaf.dtype, jax.dtypes.prng_key)
