"""What the tests start: join, add up numbers over all processes, and then what the first argument says."""

import os
import signal
import subprocess
import sys
import time

from course import launch

what = sys.argv[1]
print("arguments", sys.argv[1:], flush=True)
if what == {"0": "late", "1": "last late"}.get(os.environ.get("COURSE_PROCESS")):
    time.sleep(60)
launch.join(timeout_s=2 if "late" in what else 60)
launch.join()  # a second call does nothing
import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402

total = int(multihost_utils.process_allgather(np.arange(2) + 10 * jax.process_index()).sum())
print("total", total, "devices", jax.local_device_count(), jax.device_count(), "pid", os.getpid(), flush=True)
print("to stderr", file=sys.stderr)
last = jax.process_index() == jax.process_count() - 1
if what == "fail" and last:
    sys.exit(7)
if what == "kill" and last:
    os.kill(os.getpid(), signal.SIGKILL)
if what == "child":
    print("child", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
elif what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if what in ("wait", "deaf", "fail", "kill"):
    print("waiting", flush=True)
    time.sleep(60)
