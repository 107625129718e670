"""Runs that survive being killed: checkpoints on Orbax, the two newest kept, refused where they do not fit.

A checkpoint is written beside the one before it, which is removed only once the new one is whole. It holds the arrays
of a state, their checksum, the seconds spent so far, and what makes the run what it is. Needs NumPy, JAX, Orbax and
filelock. Lesson: 19_million_dimensions.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import signal
import threading
import warnings
from collections.abc import Mapping
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

State = TypeVar("State")  # a pytree of arrays and PRNG keys


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


class DamagedError(OSError):
    """A checkpoint is not what was saved."""


class BusyError(OSError):
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
      BusyError: another process is at work in the folder.
      TypeError: a value of the setting is none that JSON has.
    """

    def __init__(self, folder: Path | str, setting: Mapping[str, Any], *, every_s: float = 600.0):
        self.folder, self.every_s = Path(folder).resolve(), every_s
        versions = {package: version(package) for package in ("jax", "jaxlib", "optax")}
        self.setting: dict[str, Any] = _plain({**setting, "Python": platform.python_version(), **versions})
        self.stopping = False
        self._spent, self._begun, self._saved_at = 0.0, perf_counter(), perf_counter()

    def __enter__(self) -> Run:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(self.folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise BusyError(
                f"expected one process at a time in {self.folder}, got a second one; wait for the other, or take "
                "another folder"
            ) from None
        self._manager = self._open()
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
        steps = sorted(self._manager.all_steps(), reverse=True)
        problems = []
        for step in steps:
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
        """Save if it is time to, or if the process was asked to stop.

        Raises:
          StoppedError: it was, and the state is saved.
        """
        if self.stopping or perf_counter() - self._saved_at >= self.every_s:
            self.save(step, state)
        if self.stopping:
            raise StoppedError(step)

    def save(self, step: int, state: Any) -> None:
        """Write a checkpoint, unless there is one of this step; the third newest is removed then."""
        if step not in self._manager.all_steps():
            arrays = _arrays(state)
            content = {"setting": self._of(arrays), "seconds": self.seconds, "sha256": _checksum(arrays)}
            about = {"content": content, "sha256": _sha256(content)}
            items = ocp.args.Composite(arrays=ocp.args.PyTreeSave(_filled(arrays)), about=ocp.args.JsonSave(about))
            self._manager.save(step, args=items, force=True)
        self._saved_at = perf_counter()

    def remove(self) -> None:
        """Remove all checkpoints: the run is over, and its result is written."""
        self._manager.close()
        shutil.rmtree(self.folder / "checkpoints")
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True, create=True
        )
        return ocp.CheckpointManager(self.folder / "checkpoints", options=options)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopping = True

    def _of(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        return {**self.setting, **{f"state{path}": f"{a.dtype} {a.shape}" for path, a in arrays.items()}}

    def _load(self, step: int, like: State) -> tuple[State, float]:
        about = self._read(step, about=ocp.args.JsonRestore())
        content = about.get("content")
        if content is None or about.get("sha256") != _sha256(content):
            raise DamagedError("its description does not have its checksum")
        arrays = _arrays(like)
        saved, wanted = content["setting"], self._of(arrays)
        differences = {
            name: (saved.get(name), wanted.get(name))
            for name in sorted({*saved, *wanted})
            if saved.get(name) != wanted.get(name)
        }
        if differences:
            raise SettingError(self.folder, differences)
        found = dict(arrays)
        for path, array in _filled(arrays).items():  # one by one: of several, the others outlive a read that fails
            how = {path: ocp.RestoreArgs(restore_type=np.ndarray)}
            item = ocp.args.PyTreeRestore(item={path: array}, restore_args=how, partial_restore=True)
            found |= self._read(step, arrays=item)
        if _checksum(found) != content["sha256"]:
            raise DamagedError("its arrays do not have their checksum")
        return _with_arrays(like, found), content["seconds"]

    def _read(self, step: int, **item: ocp.args.CheckpointArgs) -> Any:
        try:
            return next(iter(self._manager.restore(step, args=ocp.args.Composite(**item)).values()))
        except (OSError, ValueError, LookupError, TypeError) as error:  # what Orbax, TensorStore and json make of it
            first_line, *_ = str(error).split("\n")
            raise DamagedError(f"{type(error).__name__}: {first_line:.100}") from error

    def _set_aside(self, step: int) -> None:
        aside = self.folder / "damaged" / str(step)
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        (self.folder / "checkpoints" / str(step)).rename(aside)
        self._manager.close()
        self._manager = self._open()


def _plain(value: Any) -> Any:
    """A value as JSON gives it back: a tuple becomes a list."""
    return json.loads(json.dumps(value))


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for path in sorted(arrays):
        total.update(f"{path} {arrays[path].dtype} {arrays[path].shape}".encode())
        total.update(np.ascontiguousarray(arrays[path]).view(np.uint8).data)
    return total.hexdigest()


def _arrays(state: Any) -> dict[str, np.ndarray]:
    """The leaves of a state by their paths; a PRNG key as its numbers."""
    return {
        jax.tree_util.keystr(path): np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def _filled(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those that have an entry; Orbax takes no others."""
    return {path: array for path, array in arrays.items() if array.size}


def _with_arrays(like: State, arrays: Mapping[str, np.ndarray]) -> State:
    """A state of the same structure with these leaves."""

    def leaf(path: tuple[Any, ...], old: Any) -> jax.Array:
        new = jnp.array(arrays[jax.tree_util.keystr(path)])
        return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new

    return jax.tree.map_with_path(leaf, like)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(leaf).dtype if not hasattr(leaf, "dtype") else leaf.dtype, jax.dtypes.prng_key)
