"""A run that is killed, damaged, stopped or mistaken for another."""

import errno
import hashlib
import json
import os
import shutil
import signal
import time

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import resume
from course import pde
from course.train import resumable
from course.train.resumable import BusyError, DamagedError, FolderError, Run, SettingError, StoppedError

SETTING = {"equation": "a parabola", "seed": 0, "layers": (3, 1)}
STATE = {
    "w": jnp.arange(5.0),
    "low": jnp.ones((2, 2), jnp.bfloat16),
    "none": jnp.zeros((0, 3)),
    "key": jax.random.key(3),
}


def numbers(state):
    return {
        path: np.asarray(jax.random.key_data(leaf) if path == "key" else leaf, float) for path, leaf in state.items()
    }


def same(a, b):
    a, b = numbers(a), numbers(b)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


def later(by):
    return STATE | {"w": STATE["w"] + by}


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 1, 2 and 3, of which two are kept."""
    with Run(tmp_path, SETTING) as run:
        for step in (1, 2, 3):
            run.save(step, later(step))
    return tmp_path


def restored(folder, setting=SETTING, state=STATE):
    with Run(folder, setting) as run:
        return run.restore(state)


def steps_in(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_nothing_saved_gives_the_state_back(tmp_path):
    assert restored(tmp_path) is STATE


def test_the_two_newest_are_kept_and_the_newest_comes_back(folder):
    assert steps_in(folder) == ["2", "3"]
    found = restored(folder)
    assert same(found, later(3))
    assert {path: leaf.dtype for path, leaf in found.items()} == {path: leaf.dtype for path, leaf in STATE.items()}


def test_what_a_killed_save_left_is_removed(folder):
    left = folder / "checkpoints" / "7.orbax-checkpoint-tmp"  # as Orbax names what it has not finished
    left.mkdir()
    (left / "half").write_text("")
    with Run(folder, SETTING) as run:
        run.save(9, later(9))
    assert steps_in(folder) == ["3", "9"]


def test_seconds_add_up(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(resumable, "perf_counter", lambda: clock[0])
    with Run(tmp_path, SETTING) as run:
        assert run.seconds == 0
        clock[0] += 10
        run.save(1, STATE)
        clock[0] += 5  # not saved, so not counted
    with Run(tmp_path, SETTING) as run:
        run.restore(STATE)
        clock[0] += 1
        assert run.seconds == 11


@pytest.mark.parametrize(
    ("setting", "state", "differences"),
    [
        (SETTING | {"seed": 1}, STATE, {"seed": (0, 1)}),
        (SETTING | {"rate": 0.1}, STATE, {"rate": (None, 0.1)}),
        ({k: v for k, v in SETTING.items() if k != "seed"}, STATE, {"seed": (0, None)}),
        (SETTING, STATE | {"w": jnp.ones(6)}, {"state['w']": ("float32 (5,)", "float32 (6,)")}),
        (SETTING, STATE | {"w": jnp.ones(5, int)}, {"state['w']": ("float32 (5,)", "int32 (5,)")}),
    ],
)
def test_another_setting_is_refused_by_the_name_of_what_differs(folder, setting, state, differences):
    with pytest.raises(SettingError, match="take another folder") as caught:
        restored(folder, setting, state)
    assert caught.value.differences == differences
    for name, (there, here) in differences.items():
        assert f"{name}: {there!r} there, {here!r} here" in str(caught.value)
    assert steps_in(folder) == ["2", "3"]


def test_another_version_is_refused(folder, monkeypatch):
    monkeypatch.setattr(resumable, "version", lambda package: "0.0")
    with pytest.raises(SettingError, match=r"jax: '.+' there, '0\.0' here"):
        restored(folder)


def test_a_setting_without_a_place_in_json_is_refused(tmp_path):
    with pytest.raises(TypeError, match="JSON"):
        Run(tmp_path, {"loss": lambda x: x})


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def arrays_of(folder, step):
    """The file with the numbers themselves."""
    return next(path for path in (folder / "checkpoints" / str(step) / "arrays" / "d").iterdir())


@pytest.mark.parametrize("text", ["null", "[]", "3", "{}", "[" * 100_000, "\xff", '{"content": 3, "sha256": 4}'])
def test_a_description_of_another_form(folder, text):
    (folder / "checkpoints" / "3" / "about" / "metadata").write_text(text, "latin-1")
    with pytest.warns(UserWarning, match=r"step 3 is damaged .*; continuing from step 2"):
        assert same(restored(folder), later(2))


@pytest.mark.parametrize("text", ["null", "[]", "3", "{", "[" * 100_000])
def test_a_list_of_arrays_of_another_form(folder, text):
    (folder / "checkpoints" / "3" / "arrays" / "_METADATA").write_text(text)
    with pytest.warns(UserWarning, match=r"step 3 is damaged .*; continuing from step 2"):
        assert same(restored(folder), later(2))


def test_what_else_lies_in_the_folder_is_left_alone(folder):
    strange = [
        folder / "checkpoints" / name for name in ("notes", ".nfs01", "3.orbax-checkpoint-tmp", "7", "-7", "007")
    ]
    for path in strange:
        path.write_text("x")
    (folder / "checkpoints" / str(2**40)).mkdir()  # a checkpoint by its name, and an empty one
    with pytest.warns(UserWarning, match=rf"that of step {2**40} is damaged .*; continuing from step 3"):
        assert same(restored(folder), later(3))
    assert all(path.read_text() == "x" for path in strange)


def refuse(number):
    def refused(*arguments, **_):
        raise OSError(number, os.strerror(number), str(arguments[0]))

    return refused


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.ENAMETOOLONG])
def test_a_folder_that_cannot_be_used_says_why(tmp_path, monkeypatch, number):
    said = rf"expected to write into .*, got \w+: .*{os.strerror(number)}.*; mend that, or take another folder"
    monkeypatch.setattr(type(tmp_path), "mkdir", refuse(number))
    with pytest.raises(FolderError, match=said):
        restored(tmp_path / "new")


@pytest.mark.parametrize("name", ["run", "run/checkpoints", "run/lock"])
def test_something_else_in_a_folders_place(tmp_path, name):
    path = tmp_path / name
    if path.name == "lock":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    with pytest.raises(FolderError, match=r"expected .*, got \w+Error: .*; mend that, or take another folder"):
        restored(tmp_path / "run")
    if path.name == "checkpoints":
        path.unlink()
        assert restored(tmp_path / "run") is STATE  # it was not left locked


def test_damage_that_cannot_be_moved_away(folder):
    cut(folder / "checkpoints" / "3" / "about" / "metadata")
    (folder / "damaged").write_text("x")
    with pytest.raises(FolderError, match=r"expected to move the checkpoint of step 3 .*, got FileExistsError"):
        restored(folder)


def test_a_checkpoint_that_one_may_not_read_is_not_called_damaged(folder, monkeypatch):
    with Run(folder, SETTING) as run:
        monkeypatch.setattr(run._manager, "restore", refuse(errno.EACCES))
        with pytest.raises(FolderError, match=r"expected to read .*, got PermissionError: .*; get leave for it"):
            run.restore(STATE)
    assert steps_in(folder) == ["2", "3"]


def test_a_clock_that_is_set_back_changes_nothing(folder, monkeypatch):
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3e8)
    with Run(folder, SETTING, every_s=1e6) as run:
        assert same(run.restore(STATE), later(3))
        run.after(4, later(4))
        assert steps_in(folder) == ["2", "3"]  # it is not time yet
        run.save(4, later(4))
    monkeypatch.undo()
    assert steps_in(folder) == ["3", "4"] and same(restored(folder), later(4))


@pytest.mark.parametrize("sha256", ["0" * 64, "f" * 64])
def test_a_description_needs_its_checksum(folder, sha256):
    about = folder / "checkpoints" / "3" / "about" / "metadata"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"sha256": sha256}))
    with pytest.warns(UserWarning, match=r"step 3 is damaged .*description.*checksum") as warned:
        restored(folder)
    assert warned[0].filename == __file__  # where `restore` was called


@pytest.mark.parametrize(("text", "first"), [(["one\ntwo\nthree"], "one"), ([], "")])
def test_what_a_reader_says_is_cut_to_its_first_line(folder, monkeypatch, text, first):
    def fail(*_, **__):
        raise ValueError(*text)

    with Run(folder, SETTING) as run:
        monkeypatch.setattr(run._manager, "restore", fail)
        with pytest.warns(UserWarning, match=rf"step 3 is damaged \(ValueError: {first}\); continuing from step 2"):
            run.restore(STATE)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, cut, os.unlink])
@pytest.mark.parametrize("file", ["arrays", "manifest", "about"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(folder, damage, file):
    newest = folder / "checkpoints" / "3"
    damage({"arrays": arrays_of(folder, 3), "manifest": newest / "arrays" / "manifest.ocdbt",
            "about": newest / "about" / "metadata"}[file])  # fmt: skip
    with Run(folder, SETTING) as run:
        with pytest.warns(UserWarning, match=r"step 3 is damaged .*; continuing from step 2"):
            found = run.restore(STATE)
        assert same(found, later(2))
        run.save(3, later(3))
    assert steps_in(folder) == ["2", "3"] and (folder / "damaged" / "3").is_dir()
    assert same(restored(folder), later(3))


def test_a_description_that_reads_well_and_is_not_the_one_written(folder):
    about = folder / "checkpoints" / "3" / "about" / "metadata"
    content = json.loads(about.read_text())
    content["content"]["seconds"] += 1.0
    about.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"step 3 is damaged .*description.*checksum.*; continuing from step 2"):
        assert same(restored(folder), later(2))


def test_what_a_kill_during_a_save_leaves_is_cleared_away(folder):
    unfinished = folder / "checkpoints" / "7.orbax-checkpoint-tmp"
    shutil.copytree(folder / "checkpoints" / "3", unfinished)
    with Run(folder, SETTING) as run:
        assert same(run.restore(STATE), later(3))
        run.save(4, later(4))  # Orbax clears up in a thread of its own, and a save waits for it
        assert not unfinished.exists()


@pytest.mark.parametrize("another", ["", "z"])
def test_a_wrong_number_is_found_by_its_checksum(folder, monkeypatch, another):
    with Run(folder, SETTING) as run:
        monkeypatch.setattr(resumable, "_checksum", lambda arrays: another)
        with pytest.raises(DamagedError, match=r"step 3 is damaged .* step 2 is damaged .*checksum"):
            run.restore(STATE)
    assert steps_in(folder) == []
    monkeypatch.undo()
    assert restored(folder) is STATE  # both are in `damaged`, and the next start begins anew


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128, np.int8, bool, jnp.bfloat16])
def test_a_checksum_is_the_sum_of_its_parts_and_no_other_number_has_it(dtype):
    whole = np.arange(48).reshape(4, 6, 2).astype(dtype)
    places = [np.s_[a : a + 2, b : b + 3, 0:2] for a in (0, 2) for b in (0, 3)]
    total = resumable._weighted(whole, np.s_[0:4, 0:6, 0:2], whole.shape)
    with np.errstate(over="ignore"):
        assert sum(resumable._weighted(whole[place], place, whole.shape) for place in places) == total
    for place in np.ndindex(whole.shape):
        other = whole.copy()
        other[place] = not other[place] if dtype is bool else other[place] + np.asarray(1, dtype)
        assert resumable._weighted(other, np.s_[0:4, 0:6, 0:2], whole.shape) != total


def test_a_checkpoint_of_the_older_form_is_read(tmp_path, monkeypatch):
    def older(arrays):
        total = hashlib.sha256()
        for path in sorted(arrays):
            total.update(f"{path} {arrays[path].dtype} {arrays[path].shape}".encode())
            total.update(arrays[path].tobytes())
        return total.hexdigest()

    with Run(tmp_path, SETTING) as run:
        monkeypatch.setattr(resumable, "_checksum", older)
        run.save(1, later(1))
        monkeypatch.undo()
        about = tmp_path / "checkpoints" / "1" / "about" / "metadata"
        content = json.loads(about.read_text())["content"]
        content["sha256"] = content.pop("checksum")
        about.write_text(json.dumps({"content": content, "sha256": resumable._sha256(content)}))
        assert same(run.restore(STATE), later(1))


def test_a_sharded_state_comes_back_as_it_was_laid_out(tmp_path):
    mesh = jax.make_mesh((1,), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    state = {"w": jax.device_put(jnp.arange(4.0), sharding)}
    with Run(tmp_path, SETTING) as run:
        run.save(1, state)
        assert run.restore(state)["w"].sharding == sharding


def test_who_comes_second_is_not_kept_waiting(tmp_path, monkeypatch):
    waited, acquire = [], filelock.FileLock.acquire
    monkeypatch.setattr(
        filelock.FileLock, "acquire", lambda self, timeout: waited.append(timeout) or acquire(self, timeout=timeout)
    )
    with Run(tmp_path / "made" / "for it", SETTING):
        assert waited == [0]


def test_a_number_of_pythons_is_saved_as_an_array(tmp_path):
    with Run(tmp_path, SETTING) as run:
        run.save(1, {"rate": 0.5, "w": jnp.ones(2)})
        found = run.restore({"rate": 0.0, "w": jnp.zeros(2)})
    assert float(found["rate"]) == 0.5 and found["w"].tolist() == [1, 1]


def test_one_process_a_folder(folder):
    with Run(folder, SETTING), pytest.raises(BusyError, match="one process at a time"), Run(folder, SETTING):
        pass
    restored(folder)


def test_a_signal_is_noted_saved_for_and_its_handler_put_back(tmp_path):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with Run(tmp_path, SETTING) as run:
        run.after(1, STATE)
        assert steps_in(tmp_path) == []  # neither time nor asked to
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StoppedError, match="stopped at step 2 and saved"):
            run.after(2, STATE)
        with pytest.raises(KeyboardInterrupt):  # the second time at once
            os.kill(os.getpid(), signal.SIGINT)
    assert steps_in(tmp_path) == ["2"]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_first_interrupt_waits_and_a_second_request_to_terminate_too(tmp_path):
    with Run(tmp_path, SETTING) as run:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StoppedError, match="stopped at step 1 and saved"):
            run.after(1, STATE)


def test_every_ten_minutes_is_time(tmp_path, monkeypatch):
    clock, saved = [1000.0], []
    monkeypatch.setattr(resumable, "perf_counter", lambda: clock[0])
    run = Run(folder=tmp_path, setting=SETTING)
    monkeypatch.setattr(run, "save", lambda step, state: saved.append(step))
    for step, now in enumerate((1000, 1599, 1600)):
        clock[0] = now
        run.after(step, STATE)
    assert saved == [2] and run.seconds == 600


def test_it_saves_when_it_is_time(tmp_path):
    with Run(tmp_path, SETTING, every_s=0) as run:
        run.after(1, STATE)
        assert steps_in(tmp_path) == ["1"]
        run.remove()
        assert steps_in(tmp_path) == []
        run.save(2, STATE)


SPACE = "No space left on device"


@pytest.mark.parametrize(
    "error", [OSError(28, SPACE), ValueError("RESOURCE_EXHAUSTED: Failed ... [os_error_code='28']")]
)
def test_a_full_disk_leaves_the_checkpoint_before(folder, monkeypatch, error):
    def full(*_, **__):
        raise error

    with Run(folder, SETTING) as run:
        monkeypatch.setattr(run._manager, "save", full)
        with pytest.raises(FolderError, match=rf"expected room and .* of step 4 in .*{SPACE}; mend that, or take"):
            run.save(4, later(4))
    assert same(restored(folder), later(3))


# --- pde.train -----------------------------------------------------------------------------------------------


def loss_fn(params, key):
    return ((params - jax.random.normal(key, (3,))) ** 2).sum()


OPTIMIZER = optax.adam(0.1)


def train(steps, **how):
    state = pde.start(jnp.zeros(3), OPTIMIZER, jax.random.key(1))
    return pde.train(loss_fn, OPTIMIZER, state, steps, chunk=2, **how)[0]


def test_pde_train_continues_to_the_same_bits(tmp_path):
    whole = train(10)
    with Run(tmp_path, SETTING) as run:
        train(4, run=run)
    with Run(tmp_path, SETTING, every_s=0) as run:
        again = train(10, run=run)
    assert steps_in(tmp_path) == ["10", "8"]
    np.testing.assert_array_equal(again.params, whole.params)
    assert int(again.step) == 10


def test_pde_train_has_nothing_left_to_do(tmp_path):
    with Run(tmp_path, SETTING) as run:
        first = train(4, run=run)
    with Run(tmp_path, SETTING) as run:
        state = pde.start(jnp.zeros(3), OPTIMIZER, jax.random.key(1))
        again, losses = pde.train(loss_fn, OPTIMIZER, state, 4, run=run)
    assert losses.shape == (0,)
    np.testing.assert_array_equal(again.params, first.params)


def test_pde_train_stops_between_chunks(tmp_path):
    with Run(tmp_path, SETTING) as run, pytest.raises(StoppedError):
        train(10, run=run, report=lambda state, _: os.kill(os.getpid(), signal.SIGTERM))
    with Run(tmp_path, SETTING) as run:
        np.testing.assert_array_equal(train(10, run=run).params, train(10).params)


@pytest.mark.slow
@pytest.mark.thorough
def test_killed_five_times_it_continues_to_the_same_bits():
    row = resume.kill(5, seed=1)
    assert row["resumed to the same bits"] == 5, row
    assert row["other bits"] == row["older than the last save"] == row["died by itself"] == 0, row
