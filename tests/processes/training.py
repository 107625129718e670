"""What the tests start: a small sharded training run that saves after each step, and disturbs itself where it is told.

    training.py FOLDER AXIS STEPS [EVENT STEP]

AXIS is the array axis that the mesh shards: rows, columns or none. EVENT is a signal that the last process sends to
itself at that step, or one of the words below; "full" is a disk on which that process cannot write any more.
"""

import hashlib
import os
import resource
import signal
import sys
import time

from course import launch

launch.join()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

from course.train.resumable import FolderError, Run, SettingError, StoppedError  # noqa: E402

SPECS = {"rows": PartitionSpec("data"), "columns": PartitionSpec(None, "data"), "none": PartitionSpec()}


def main(folder, axis, steps, event="", when="0"):
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    last = jax.process_index() == jax.process_count() - 1

    def start():
        width = 48 if event == "narrow" else 64
        return {"b": jnp.ones(3, jnp.bfloat16), "empty": jnp.zeros((0, 4)), "key": jax.random.key(3),
                "step": jnp.int32(0), "w": jnp.arange(8.0 * width).reshape(8, width)}  # fmt: skip

    everywhere = dict.fromkeys(jax.eval_shape(start), NamedSharding(mesh, PartitionSpec()))
    state = jax.jit(start, out_shardings=everywhere | {"w": NamedSharding(mesh, SPECS[axis])})()

    @jax.jit
    def step(state):
        noise = jax.random.normal(jax.random.fold_in(state["key"], state["step"]), state["w"].shape)
        return state | {"w": 0.9 * state["w"] + noise, "step": state["step"] + 1}

    with Run(folder, {"seed": 0}, every_s=1e9 if event == "never" else 0) as run:
        found = run.restore(state)
        assert found["w"].sharding == state["w"].sharding
        state = found
        print("found", int(state["step"]), flush=True)
        while (done := int(state["step"])) < int(steps):
            state = step(state)
            if last and done + 1 == int(when):
                if event == "wait":
                    print("waiting", flush=True)
                    time.sleep(60)
                elif event == "leave":
                    sys.exit(7)
                elif event == "full":
                    resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
                elif event.startswith("SIG"):
                    os.kill(os.getpid(), signal.Signals[event])
            run.after(done + 1, state)
    w = multihost_utils.process_allgather(state["w"], tiled=True) if jax.process_count() > 1 else state["w"]
    if jax.process_index() == 0:
        print("bits", hashlib.sha256(np.asarray(w).tobytes()).hexdigest(), flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except StoppedError as stopped:
        print(stopped, flush=True)
        sys.exit(130)
    except (FolderError, SettingError) as error:
        sys.exit(str(error))
