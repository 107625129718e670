# %% [markdown]
# # 15 · Ship it
#
# **What must leave the training machine so that another one, without your code, predicts the same?** (90 minutes)

# %% [markdown]
# After this lesson you can
#
# - export a model as one file, for any batch size and for processors that you don't have,
# - run that file where neither flax nor your code is, and say what it does need,
# - read what `jax.export` refuses, and know what it lets through without a word,
# - compile ahead of time for a few batch sizes, and serve the program over HTTP with limits,
# - hand the weights back to PyTorch, and prove that all of it agrees.
#
# The model is the Titanic network of [01b](01b_titanic_nnx.ipynb).

# %%
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
import safetensors.numpy
import safetensors.torch
import torch
from flax import nnx
from jax import export

from course import plots, porting, serve, timing
from course.data import Features, labels, load_titanic, split
from course.failures import fails
from course.train import titanic_nnx, titanic_torch

# %%
SEED, BATCH, EPOCHS, RATE, ROUNDS = 0, 32, 20, 1e-3, 101

torch.set_num_threads(1)
plots.use()
jax.config.update("jax_traceback_in_locations_limit", 0)  # else the paths of your sources are in what you ship
scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
folder = Path(scratch.name).resolve()

# %% [markdown]
# ## Something worth shipping
#
# Twenty epochs of training, as in 01b. What is shipped is not the model but a function of arrays: features in,
# probability out. The weights are constants of that function, and whatever else a client should not have to know
# belongs in it: here the sigmoid. A model with dropout or BatchNorm goes to `model.eval()` before, as in torch; this
# one has neither.

# %%
train, _, test = split(load_titanic(), SEED)
features = Features.fit(train)
x, y, x_test = features(train), labels(train), features(test)
model = titanic_nnx.TitanicMLP(rngs=nnx.Rngs(SEED))
optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)
train_step = nnx.jit(titanic_nnx.train_step)
rng = np.random.default_rng(SEED)
for _ in range(EPOCHS):
    rows = rng.permutation(len(x))
    for start in range(0, len(x) - BATCH + 1, BATCH):
        chosen = rows[start : start + BATCH]
        train_step(model, optimizer, x[chosen], y[chosen])


def predict(x):  # (b, 15) -> (b,)
    return jax.nn.sigmoid(model(x))


truth = np.asarray(predict(x_test))
accuracy = ((truth > 0.5) == labels(test)).mean()
print("probabilities of", len(truth), "passengers, the first:", truth[:4].round(2))
print("test accuracy >= 0.75 ", "ok" if accuracy >= 0.75 else accuracy)


# %% [markdown]
# ## In PyTorch: `torch.export`
#
# The same weights in the torch model, carried by [`course.porting`](07_porting_checkpoints.ipynb). `torch.export`
# traces it with an example, `Dim` leaves the batch open, and a file takes graph and weights to a process that needs
# torch but not your class.

# %%
class Predict(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return torch.sigmoid(self.model(x))


torch_model = Predict(porting.nnx_to_torch(model, titanic_torch.TitanicMLP())).eval()
open_batch = {0: torch.export.Dim("b")}
graph = torch.export.export(torch_model, (torch.zeros(2, 15),), dynamic_shapes=(open_batch,))
torch.export.save(graph, folder / "m.pt2")
torch_program = torch.export.load(folder / "m.pt2").module()
with torch.inference_mode():
    in_torch = torch_program(torch.from_numpy(x_test)).numpy()
print("torch.export against NNX: gap below 1e-6 ", "ok" if abs(in_torch - truth).max() < 1e-6 else "no")

# %% [markdown]
# ## In JAX: `jax.export`
#
# JAX wants a jitted function and, as its example, shapes and dtypes alone. `symbolic_shape` makes the dimension that
# stays open. `platforms` says which compilers the program is lowered for: StableHLO, the compiler's input, can be
# written for a TPU on a laptop. Its text can be read.

# %% alt="From left to right: on the training machine, a blue rounded box 'model, flax, course' leads by 'export' to a box 'program, StableHLO with the weights in it' and a box 'manifest, SHA-256 and JAX version' below it; both lead across a dotted line to the serving machine, to a rounded box 'compiled for 1, 8, 64, 256 rows', loaded if the manifest agrees; there are jax, numpy and flatbuffers alone. From it an arrow leads to a box 'HTTP, JSON'."
d = plots.Diagram(height=2.5)
source = d.function(0.8, 1.6, "predict\nmodel, flax, course", side="jax", width=1.5, height=0.6)
program = d.array(3.0, 1.6, "program\nStableHLO and weights", side="jax", width=1.6, height=0.6)
manifest = d.array(3.0, 0.7, "manifest\nSHA-256, JAX's version", width=1.6, height=0.6)
served = d.function(5.4, 1.6, "compiled for\n1, 8, 64, 256 rows", side="jax", width=1.5, height=0.6)
client = d.array(7.3, 1.6, "HTTP\nJSON", width=0.9, height=0.6)
d.arrow(source, program, "export", side="jax")
d.arrow(program, served, side="jax")
d.arrow(manifest, served, dashed=True)
d.note(5.4, 1.1, "loaded if the manifest agrees")
d.arrow(served, client)
d.note(0.8, 2.25, "training machine: everything")
d.note(6.0, 2.25, "serving machine: jax, numpy, flatbuffers")
d.axes.plot([4.15, 4.15], [0.2, 2.45], color="gray", linestyle=":", marker="")
plt.show()
print("what crosses the line: one program, one manifest")

# %%
(b,) = export.symbolic_shape("b")
exported = export.export(jax.jit(predict), platforms=("cpu", "cuda", "tpu"))(jax.ShapeDtypeStruct((b, 15), jnp.float32))
print(exported.fun_name, *exported.in_avals, "->", *exported.out_avals, "for", ", ".join(exported.platforms))
for words in ("func.func public", "stablehlo.custom_call @shape_assertion", "stablehlo.dot_general"):
    line = next(line for line in exported.mlir_module().splitlines() if words in line)
    line = re.sub(r' loc\([^)]*\)|error_message = "[^"]*", ', "", line)
    print(re.sub(r"(.{1,97}\S)( |$)", r"\1\n  ", line.strip()).strip())  # lines of 100 characters

# %% [markdown]
# `b` is `?` in it. A program for several platforms is told the platform in a hidden argument, `_platform_index`. It
# compares the shape that it was given (`shape_assertion`), and then it computes.
#
# `serialize` makes bytes of it, and `deserialize` a program. Both need the package flatbuffers, which JAX does not
# bring along.
#
# **Predict.** The weights are 15·64 + 64 + 64 + 1 float32 numbers. How large is the file, next to them?

# %%
blob = bytes(exported.serialize())
assert b"ipykernel" not in blob
weights = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
print(f"weights {weights} bytes, the file {len(blob) / weights:.1f} times as much")

again = export.deserialize(bytearray(blob))
for rows in (1, 3, len(x_test)):
    gap = abs(again.call(x_test[:rows]) - truth[:rows]).max()
    print(f"{rows:4} rows: gap below 1e-6 ", "ok" if gap < 1e-6 else gap)

# %%
graphdef, state = nnx.split(model)
leaves, tree = jax.tree.flatten(state)
rows_15 = jax.ShapeDtypeStruct((b, 15), jnp.float32)


def apply(leaves, x):
    return jax.nn.sigmoid(nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))(x))


with fails(ValueError):
    export.export(jax.jit(lambda state, x: nnx.merge(graphdef, state)(x)))(state, rows_15).serialize()
without = export.export(jax.jit(apply))(leaves, rows_15)  # of the arrays, shapes and dtypes are taken
print(f"a program that takes them: {len(without.serialize()) / weights:.1f} times the weights' bytes")
small = export.deserialize(without.serialize(vjp_order=1))
assert abs(small.call(leaves, x_test) - truth).max() < 1e-6
grads = jax.grad(lambda leaves: jnp.log(small.call(leaves, x_test)).mean())(leaves)
print("the same predictions  ok; gradients of", *(grad.shape for grad in grads))

# %% [markdown]
# The weights are in the first file, as constants: one file is all there is to copy, and a client cannot mix versions.
# The second program takes them as an argument, a list of arrays. It serves every checkpoint and is as small as code
# is; the weights travel beside it, as safetensors. NNX's own state is refused as that argument, since `Param` is no
# type that another process knows. `vjp_order=1` writes the derivative with it (for the arguments: constants have
# none), so that a process without your code can fine-tune.
#
# Names of your source files would be in the file as well; the configuration at the top keeps them out.
#
# ## A process that has nothing
#
# A claim that is easily made and easily tested. A folder gets links to packages, the program and a script.
# `-I -S` starts a Python that sees its standard library and nothing that is installed; the folder is all it gets.

# %%
bare = folder / "bare"
bare.mkdir()


def install(*names):
    for name in names:
        place = Path(__import__(name).__file__)
        place = place.parent if place.name == "__init__.py" else place
        for found in [place, place.with_name(f"{name}.libs")]:  # wheels keep shared libraries beside
            if found.exists():
                (bare / found.name).symlink_to(found, target_is_directory=found.is_dir())


install("jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy")
serve.save(exported, folder / "titanic.jax")
np.save(folder / "x.npy", x_test)
print("in the folder:", *sorted(path.name for path in folder.iterdir()))

# %% [markdown]
# **Predict.** Six packages are there; flatbuffers is not one of them. Which line of the script fails?

# %%
script = """
import sys
sys.path.append("bare")
import numpy as np
from jax import export
from pathlib import Path
program = export.deserialize(bytearray(Path("titanic.jax").read_bytes()))
np.save("y.npy", program.call(np.load("x.npy")))
print("predictions:", np.load("y.npy")[:4].round(2))
for name in ("flax", "course"):
    try:
        __import__(name)
    except ImportError as error:
        print(error)
"""
(folder / "predict.py").write_text(script, "utf-8")
alone = {"cwd": folder, "env": {**os.environ, "JAX_PLATFORMS": "cpu"}, "text": True}
python = [sys.executable, "-I", "-S"]
done = subprocess.run([*python, "predict.py"], **alone, capture_output=True)
said = done.stderr.strip().splitlines()
where = next(number for number, line in enumerate(said) if "predict.py" in line)
print(f"exit code {done.returncode}", *said[where + 1 : where + 2], said[-1], sep="\n")

# %% [markdown]
# Reading needs it as well as writing: the requirements of the serving machine are jax, numpy and flatbuffers, pinned.
# JAX brings the others.

# %%
install("flatbuffers")
done = subprocess.run([*python, "predict.py"], **alone, capture_output=True)
print(done.stdout)
elsewhere = np.load(folder / "y.npy")
assert done.returncode == 0 and abs(elsewhere - truth).max() < 1e-6
print("the same predictions without flax and without the course  ok")

# %% [markdown]
# ## What it refuses, and what it does not
#
# A program takes what it was exported for: shapes and dtypes are compared at each call.
#
# **Predict.** It was exported for float32. What do float16 and float64 rows do, in JAX and in torch?

# %%
with fails(ValueError):
    again.call(x_test.astype(np.float16))
print("float64:", again.call(x_test[:2].astype(np.float64)).dtype)
for tensor in (torch.from_numpy(x_test[:2]).half(), torch.from_numpy(x_test[:2]).double()):
    with fails(RuntimeError), torch.inference_mode():
        torch_program(tensor)
for wrong in (x_test[:, :14], x_test[:0], x_test[:2].tolist()):
    with fails(ValueError, lines=3):
        again.call(wrong)


# %% [markdown]
# float16 is refused. float64 from NumPy gets through, for outside of x64 mode JAX makes float32 of it on the way, as
# everywhere ([05](05_precision.ipynb)). Torch refuses both, at the first product. In a process with `jax_enable_x64`
# JAX does as well, so a client that works today fails after a change of a flag on the server: convert at the door,
# `np.asarray(x, np.float32)`.
#
# Of wrong columns the message names the dimension. No rows fail in the comparison that you saw in the text, since a
# symbolic dimension is at least 1. A list is a tree, not an array.
#
# ### A program that compares its shape
#
# Python's `if` on a shape is decided while tracing ([08](08_tracing.ipynb)). With a symbolic dimension there is nothing
# to decide by. A reshape that must divide compares as well.

# %%
def chunked(x):
    if x.shape[0] > 64:  # large batches another way
        return jax.lax.map(predict, x, batch_size=64)
    return predict(x)


class Chunked(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] > 64 else x


for f in (chunked, lambda x: x.reshape(-1, 2, 15)):
    with fails(Exception, lines=3):  # InconclusiveDimensionOperation, which older versions of jax.errors lack
        export.export(jax.jit(f))(rows_15)
with fails(Exception, lines=4):
    torch.export.export(Chunked(), (torch.zeros(2, 15),), dynamic_shapes=(open_batch,))

(small,) = export.symbolic_shape("b", constraints=("b <= 64",))
(pairs,) = export.symbolic_shape("2*n")
for f, size in ((chunked, small), (lambda x: x.reshape(-1, 2, 15), pairs)):
    print("promised:", export.export(jax.jit(f))(jax.ShapeDtypeStruct((size, 15), jnp.float32)).out_avals[0])
in_torch_too = torch.export.export(
    Chunked(), (torch.zeros(2, 15),), dynamic_shapes=({0: torch.export.Dim("b", max=64)},)
)
print("promised to torch:", tuple(in_torch_too.module()(torch.zeros(7, 15)).shape))

# %% [markdown]
# Both refuse to guess. JAX says that the comparison is inconclusive; torch took the branch of its example, and
# complains that the dimension would no longer be open. The ways out are the same: promise a range (`b <= 64`,
# `Dim("b", max=64)`) or a form (`2*n`, `2 * Dim("n")`), and the comparison is decided; or export once for each branch.
#
# ### What has no guarantee
#
# A program may call into a library: LAPACK for `eigh`, your own kernel by `jax.ffi`. JAX promises only for calls on
# its list that a later version still has them. And a call back into Python can't be shipped at all. Nor does a
# program run on another platform than those that it was lowered for.

# %%
vector = jax.ShapeDtypeStruct((3,), jnp.float32)
with fails(ValueError, lines=3):
    export.export(jax.jit(lambda x: jax.ffi.ffi_call("my_kernel", x)(x)))(vector)


def talkative(x):
    jax.debug.print("x = {}", x)
    return x


with fails(NotImplementedError):
    export.export(jax.jit(talkative))(vector).serialize()
allowed = [export.DisabledSafetyCheck.custom_call("my_kernel")]
kernel = export.export(jax.jit(lambda x: jax.ffi.ffi_call("my_kernel", x)(x)), disabled_checks=allowed)(vector)
with fails(Exception, lines=3):
    kernel.call(np.ones(3, np.float32))

other = "tpu" if jax.default_backend() != "tpu" else "cuda"
with fails(ValueError):
    export.export(jax.jit(predict), platforms=(other,))(rows_15).call(x_test)

# %% [markdown]
# With `disabled_checks` you give the guarantee yourself: the machine that runs it must have registered that kernel.
# The forgotten `jax.debug.print` is the everyday case.
#
# ### Versions and flipped bits
#
# JAX promises: a program that it exports today can be read by every JAX of the next six months, and by those of three
# weeks before. So upgrade the servers first, then the machine that exports. What happens otherwise is not always an
# error that says so: while this lesson was written, jax 0.7.2 read a program of 0.10.2 without a word, and said at the
# call that it "was exported for 0 devices".
#
# (From 0.11.1 on JAX refuses a program of more than six months by name; see
# [its release notes](https://github.com/jax-ml/jax/releases/tag/jax-v0.11.1).)
#
# Nor has the format a checksum. Some flipped bits make it unreadable, some end the process with a segmentation fault.
#
# **Predict.** And a bit within a weight? `serve.save` wrote a manifest, which is compared before JAX sees the file.

# %% tags=["nbval-ignore-output"] volatile="checksums of trained weights"
manifest = json.loads((folder / "titanic.json").read_text("utf-8"))
assert manifest["jax"] == list(jax.__version_info__)
print("titanic.json has", *manifest)

flipped = bytearray(blob)
flipped[blob.index(np.asarray(model.hidden.kernel[...]).tobytes()) + 3] ^= 0x40  # the first weight's exponent
moved = abs(export.deserialize(flipped).call(x_test) - truth).max()
print("one flipped bit, read without a word; a probability moves by more than 0.1:", bool(moved > 0.1))
(folder / "flipped.jax").write_bytes(flipped)
(folder / "flipped.json").write_text(json.dumps(manifest), "utf-8")
with fails(ValueError):
    serve.Program(folder / "flipped.jax")

(folder / "newer.jax").write_bytes(blob)
(folder / "newer.json").write_text(json.dumps({**manifest, "jax": [99, 0, 0]}), "utf-8")
with fails(ValueError):
    serve.Program(folder / "newer.jax")

# %% [markdown]
# `course.serve` is one file, and imports nothing else of the course. What follows is what it does.
#
# ## Compile before the first request
#
# StableHLO is not machine code. `again.call` prepares a call anew each time; under `jax.jit` it is compiled at the
# first call with each shape, and that first client waits. `lower` and `compile` do it at the start. (torch's
# counterpart is AOTInductor, `torch._inductor.aoti_compile_and_package`: it compiles by a C++ compiler into a file, and
# keeps the batch open.)
#
# **Predict.** The program has a symbolic batch. Does the compiled one?

# %%
call = jax.jit(again.call)
first_s, later_s = timing.measure(call, x_test[:8])
print("the first client waits more than ten times as long as the others:", first_s > 10 * later_s)
compiled = call.lower(jax.ShapeDtypeStruct((8, 15), jnp.float32)).compile()
print("8 rows:", compiled(x_test[:8]).shape)
with fails(TypeError):
    compiled(x_test[:5])


# %% [markdown]
# No: XLA compiles fixed shapes. A symbolic dimension saves you an export for every batch size, not a compilation, and
# clients that send 1 to 256 rows ask for 256 of them. So a server rounds up to a few sizes, fills with zeros, and cuts
# the answer:

# %%
class Padded:
    def __init__(self, program, sizes):
        call = jax.jit(program.call)
        shapes = {size: jax.ShapeDtypeStruct((size, 15), jnp.float32) for size in sizes}
        self.compiled = {size: call.lower(shape).compile() for size, shape in shapes.items()}

    def __call__(self, x):
        size = min(size for size in self.compiled if size >= len(x))
        padded = np.zeros((size, 15), np.float32)
        padded[: len(x)] = x
        return np.asarray(self.compiled[size](padded))[: len(x)]


padded = Padded(again, (1, 8, 64, 256))
gaps = [abs(padded(x_test[:rows]) - truth[:rows]).max() for rows in range(1, 257, 15)]
print(f"{len(gaps)} batch sizes, {len(padded.compiled)} programs; gap below 1e-6 ", "ok" if max(gaps) < 1e-6 else gaps)

# %% [markdown]
# Zeros do no harm where rows don't depend on one another. A model that averages over its batch (BatchNorm in training
# mode, a loss) would give other answers. `serve.Program` does the same, for rows of any shape.
#
# ## Behind HTTP
#
# A service is one more process with its own folder: Starlette, on which FastAPI is built, answers requests, and uvicorn
# holds the socket. The file
# `course/serve.py` is copied beside program and manifest. It listens on the loopback address alone: what speaks to the
# world, with TLS, logins and a limit on slow headers, is a proxy in front of it. A client needs HTTP and JSON.

# %%
install("starlette", "uvicorn", "anyio", "idna", "h11", "click", "typing_extensions")
(folder / "serve.py").write_bytes(Path(serve.__file__).read_bytes())
start = "import runpy, sys; sys.path += ['bare', '.']; runpy.run_module('serve', run_name='__main__')"
service = subprocess.Popen([*python, "-c", start, "titanic.jax", "--port", "0"], **alone, stdout=subprocess.PIPE)
address = service.stdout.readline().split("//")[-1].strip()
connection = http.client.HTTPConnection(address, timeout=30)
print("serving at", address.partition(":")[0], "on a free port")


def ask(body, url="/predict"):
    connection.request("POST" if body is not None else "GET", url, body)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


status, health = ask(None, "/health")
print(status, *(f"{key} {health[key]}" for key in ("status", "row", "rows", "body")))
status, answer = ask(json.dumps({"rows": x_test[:200].tolist()}))
answers = answer["predictions"] + ask(json.dumps({"rows": x_test[200:].tolist()}))[1]["predictions"]
over_http = np.float32(answers)
assert status == 200 and abs(over_http - truth).max() < 1e-6
print(status, over_http[:4].round(2), "... gap below 1e-6  ok")

# %% [markdown]
# Whoever can reach a service sends it nonsense, mostly by mistake.
#
# **Predict.** `json.dumps` writes a missing age as `NaN`. Which of these bodies would NumPy have turned into numbers
# without a word?

# %%
row = x_test[0].tolist()
first = {"a missing value": float("nan"), "a number as text": "0.5", "true": True, "beyond float32": 1e39}
bodies = {name: json.dumps({"rows": [[value, *row[1:]]]}) for name, value in first.items()} | {
    "14 columns": json.dumps({"rows": [row[1:]]}),
    "300 rows": json.dumps({"rows": [row] * 300}),
    "no body": "",
    "nested": "[" * 100_000,
    "a megabyte": " " * 1_000_001,
}
slow = http.client.HTTPConnection(address, timeout=30)
slow.putrequest("POST", "/predict")
slow.putheader("Content-Length", "100")
slow.endheaders(b'{"rows": ')  # and the rest never comes
for name, body in bodies.items():
    status, answer = ask(body)
    print(f"{name:16} {status} {answer['error'].partition(';')[0][:84]}")
answer = slow.getresponse()
print(f"{'half a body':16} {answer.status} {json.loads(answer.read())['error'].partition(';')[0]}")
slow.close()
with np.errstate(over="ignore"):
    print("NumPy takes the first four for", *(np.asarray([value], np.float32)[0] for value in first.values()))


# %% [markdown]
# The first four: NaN, 0.5, 1 and infinity, and each prediction would have looked like any other. FastAPI's
# `rows: list[list[float]]` takes text and `true` for numbers as well, unless its model is
# [strict](https://docs.pydantic.dev/latest/concepts/conversion_table/).
#
# 422 is bad input, 413 a body that is too long, 408 one that does not arrive within five seconds. A call that waits for
# longer than five gets 503 (`tests/unit/test_serve.py` makes one wait). Each message says what was expected, what came,
# and what to do.
#
# ## How fast?
#
# Both sides in one run, in turns, one row and many; medians. `.call` is what was read from the file; the others are
# what you just saw. Padding is in "padded", JSON and a socket are in "HTTP".

# %% tags=["nbval-ignore-output"] volatile="microseconds"
def microseconds(functions):
    taken = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, f in functions.items():
            taken[name].append(1e6 * timing.seconds(f))
    return {name: np.median(times) for name, times in taken.items()}


def contenders(rows):
    some, tensor, body = x_test[:rows], torch.from_numpy(x_test[:rows]), json.dumps({"rows": x_test[:rows].tolist()})
    return {
        "torch eager": lambda: torch_model(tensor),
        "torch.export": lambda: torch_program(tensor),
        "jax.export, .call": lambda: again.call(some),
        "jax.export under jit": lambda: call(some),
        "compiled, padded": lambda: padded(some),
        "HTTP": lambda: ask(body),
    }


with torch.inference_mode():
    latency = pd.DataFrame({rows: microseconds(contenders(rows)) for rows in (1, 64, 250)})
print(timing.environment())
tables = {"µs a call": latency, "rows a second": 1e6 * latency.columns / latency}
pd.concat(tables, axis=1, names=["", "rows"]).round(0).astype(int)

# %% [markdown]
# For a model this small all of it is overhead: `.call` as it stands prepares every call in Python, torch's exported
# module checks its guards and then runs the graph operation by operation, and the compiled program is one call. The
# way over HTTP costs more than the model, so a batch is what makes it worth while. `benchmarks/serving.py` measures
# the torch program behind the same service, too.
#
# ## Stop
#
# SIGTERM is what an orchestrator sends. Requests under way are answered, the socket closes, the exit code is 0; what
# takes longer than five seconds is cut. (Windows has no such signal: there the process ends at once.)

# %%
connection.close()
service.terminate()
code = service.wait(20)
service.stdout.close()
assert code == 0 or os.name == "nt", code
print("ended by its own choice  ok")
with fails(ConnectionRefusedError):
    ask(None, "/health")

# %% [markdown]
# ## The weights, back to PyTorch
#
# Weights in a program are constants. Whoever wants to fine-tune them in torch wants arrays. You carried them to torch
# above; the same arrays, in torch's names and layout, go into a file that needs neither JAX nor torch to read.

# %%
like = {name: tensor.numpy() for name, tensor in titanic_torch.TitanicMLP().state_dict().items()}
arrays = porting.nnx_to_arrays(model, like)
arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # the file keeps no strides
safetensors.numpy.save_file(arrays, folder / "m.safetensors")
state = safetensors.torch.load_file(folder / "m.safetensors")
fresh = titanic_torch.TitanicMLP()
print(fresh.load_state_dict(state), *(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items()), sep="\n  ")
with torch.inference_mode():
    tuned = torch.sigmoid(fresh(torch.from_numpy(x_test))).numpy()

# %% [markdown]
# ## End to end
#
# Eight ways from a passenger to a probability, in three processes and two frameworks.

# %%
ways = {
    "NNX": truth,
    "exported, read again": again.call(x_test),
    "a process without flax": elsewhere,
    "compiled and padded": np.concatenate([padded(x_test[:256]), padded(x_test[256:])]),
    "over HTTP": over_http,
    "torch, carried over": torch_model(torch.from_numpy(x_test)).detach().numpy(),
    "torch.export": in_torch,
    "torch, from safetensors": tuned,
}
for name, got in ways.items():
    gap = abs(np.asarray(got, np.float64) - truth).max()
    assert got.shape == truth.shape and gap < 1e-6, (name, gap)
    print(f"{name:24} gap below 1e-6  ok")
scratch.cleanup()

# %% [markdown]
# ## Summary
#
# - Export a jitted function of arrays, with a symbolic batch and all platforms that may run it. The file needs jax,
#   numpy and flatbuffers, and neither flax nor your code. Weights are constants in it, or an argument.
# - Shapes are compared at each call, dtypes nearly (float64 passes outside x64 mode). Versions and flipped bits are
#   not: ship a manifest, upgrade servers first.
# - A symbolic batch is not a compiled one. Compile for a few sizes at the start, and pad.
# - A service limits all that a client controls: rows, bytes, seconds, kinds of numbers. It says no with a reason.
# - Weights go back to torch by name and layout. Prove the whole way with one batch and 1e-6.
#
# ## Further reading
#
# - [Exporting and serializing staged-out computations](https://docs.jax.dev/en/latest/export/export.html): guarantees,
#   custom calls, versions, in the words of JAX's authors.
# - [Shape polymorphism](https://docs.jax.dev/en/latest/export/shape_poly.html): what symbolic dimensions can decide.
# - [Ahead-of-time lowering and compilation](https://docs.jax.dev/en/latest/aot.html): `lower`, `compile`, and between.
# - [torch.export](https://docs.pytorch.org/docs/stable/export.html): the other side.
# - [uvicorn: settings](https://www.uvicorn.org/settings/): limits and timeouts of the process that holds the socket.
#
# Exercises: [your turn](exercises/15_ship_it.ipynb).
#
# Next: [16 · The derivative cliff](16_derivative_cliff.ipynb).
