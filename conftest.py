"""pytest and the kernels that nbval starts run in the environment of every other lesson run."""

import os

from tools import environment

os.environ.update(environment.KERNEL)
