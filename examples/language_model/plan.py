"""Memory, collectives and time of a training step on a machine that one does not have.

`python -m examples.language_model.plan --params 1B --mesh data=32,tensor=8 --accelerator h100` lowers and compiles the
step of `examples.language_model.step` for 256 simulated devices. Nothing is run and no parameter is allocated. What it
prints holds under `ASSUMPTIONS`; PLAN.md shows 1B and 8B parameters. Needs JAX, flax, optax and pandas.

Lesson: 13_many_devices.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from course.sharding import KINDS, bytes_per_device, instructions
from examples.language_model import sharding, step
from examples.language_model.config import Config, OptionError
from tools.tables import print_table

ASSUMPTIONS = """\
- Devices lie in the order of the mesh, the last axis innermost. `island` of them are joined by `link`: GPUs of a node
  by NVLink, TPUs of a slice by ICI, where each axis of the mesh has a torus axis of its own (two links, both ways
  used). A collective that leaves the island goes at `network`, once for each of its devices in the island.
- Collectives are read from the partitioned program, before the CPU compiler widens bfloat16 to float32. They send what
  a ring sends: a gather or a scatter (n - 1)/n of the whole array, an all-reduce twice that. An all-reduce whose result
  is sliced at once counts as a reduce-scatter, as compilers for GPU and TPU write it. Latencies are left out.
- Each matrix product takes the longer of its FLOPs at the peak of bfloat16 without sparsity and its operands and result
  through memory once. What stands between products is fused into them and free. The optimizer reads the gradients, and
  reads and writes the state, once.
- "Overlapped" is the longer of computing and sending; "one after the other" is their sum, from which tokens a second
  and MFU (model FLOPs utilization) follow. No kernel reaches the peak: computing takes longer than said here.
- Activations by the formula: with `remat`, the inputs of all blocks, and what one block or the logits need. Attention
  computes all pairs and writes its scores, as `jax.nn.dot_product_attention` does without a fused kernel.
- XLA's plan of temporary memory is the CPU compiler's: it widens bfloat16, fuses less, and does not order operations so
  as to save memory. It is an upper bound. What it says of the state, with the batch, is exact.
"""


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """What a data sheet says of one device; bytes and FLOPs a second, in one direction."""

    peak: float  # FLOP/s, bfloat16, dense
    memory: float  # bytes
    memory_rate: float
    link: float  # between devices of an island, along one axis
    island: int  # devices that `link` joins
    network: float  # of one device, between islands
    source: str


ACCELERATORS = {
    "a100": Accelerator(
        312e12, 80e9, 2.039e12, 300e9, 8, 25e9,
        "NVIDIA A100 80GB SXM data sheet (NVLink 600 GB/s, both directions); DGX A100: a 200 Gbit/s adapter a GPU",
    ),
    "h100": Accelerator(
        989.4e12, 80e9, 3.35e12, 450e9, 8, 50e9,
        "NVIDIA H100 SXM data sheet (NVLink 900 GB/s, both directions); DGX H100: a 400 Gbit/s adapter a GPU",
    ),
    "tpu-v5e": Accelerator(
        197e12, 16e9, 819e9, 100e9, 256, 3.125e9,
        "cloud.google.com/tpu/docs/v5e (ICI 400 GB/s, 4 ports, both directions; 6.4 Tbit/s between pods of 256)",
    ),
}  # fmt: skip


MOST = 4096  # simulated devices


class Operation(NamedTuple):
    """One matrix product or collective, as each device takes part in it."""

    kind: str  # "dot", or as in course.sharding
    bytes: int  # operands and result of a dot; the whole array of a collective, as course.sharding counts it
    flops: int = 0
    group: tuple[int, ...] = ()  # devices that take part with device 0, by their place in the mesh


@dataclasses.dataclass(frozen=True)
class Program:
    """What was read from a compiled step; for one device."""

    operations: Mapping[Operation, float]  # how often each occurs in a step
    arguments: float  # bytes of state and batch, XLA's
    temporaries: float  # bytes, XLA's
    flops: float  # XLA's, elementwise operations included, a loop's body once


def shape_of(parameters: float, vocab: int) -> dict[str, int]:
    """Width, layers, heads and hidden width of a model of about so many parameters.

    Heads have 128 entries, their number is 2^k or 3 * 2^k, and of these widths the one is taken that is nearest to 128
    times the number of layers (GPT-3's larger models: 85 to 128).

    Raises:
      OptionError: embeddings alone are more, or no width fits.
    """
    best: tuple[float, dict[str, int]] | None = None
    for width in sorted(128 * part * 2**k for part in (1, 3) for k in range(9)):
        layers = round((parameters - 2 * vocab * width) / (12 * width**2))  # attention 4, MLP 8
        if layers >= 2 and (best is None or abs(math.log(width / layers / 128)) < best[0]):
            shape = {"width": width, "layers": layers, "heads": width // 128, "hidden": 4 * width}
            best = abs(math.log(width / layers / 128)), shape
    if best is None:
        raise OptionError(
            f"expected --params above {2 * vocab * 128 + 24 * 128**2:,} with {vocab:,} pieces of text, got "
            f"{parameters:,.0f}; ask for more, or fewer pieces with --vocab"
        )
    return best[1]


def parse_parameters(text: str) -> float:
    """The number that "350M", "1B" or "1.5e9" means.

    Raises:
      OptionError: it is none above 0.
    """
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([KMBT]?)", text)) or not float(found[1]):
        raise OptionError(f"expected a number of parameters, got {text!r}; write --params 1B, 350M or 8e9")
    return float(found[1]) * {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[found[2]]


def check(config: Config, mesh: Mesh) -> None:
    """Refuse a mesh that does not divide the heads; `step.jit_step` refuses what does not divide arrays.

    Raises:
      sharding.MeshError: it does not.
    """
    parts = mesh.shape.get("tensor", 1)
    if config.heads % parts:
        raise sharding.MeshError(
            f"expected heads that tensor={parts} divides, got {config.heads}; take a smaller axis, or other --heads"
        )


# --- compiling -----------------------------------------------------------------------------------------------------


def compile_step(config: Config, mesh: Mesh) -> Program:
    """Compile the training step for a mesh, from shapes alone.

    Raises:
      sharding.MeshError: the mesh does not divide the heads, a parameter or the batch.
    """
    check(config, mesh)
    jitted = step.jit_step(config, mesh)
    state = jax.eval_shape(lambda: step.init(config))
    tokens = jax.ShapeDtypeStruct((config.batch, config.context + 1), jnp.int32)
    with tempfile.TemporaryDirectory() as folder:
        compiled = jitted.lower(state, tokens).compile(
            compiler_options={
                "xla_dump_to": folder,
                "xla_dump_hlo_pass_re": "spmd-partitioning",
                "xla_disable_hlo_passes": "constant_folding",  # takes long, and complains of it, at these sizes
                "xla_backend_optimization_level": 0,  # nothing is run
                "xla_llvm_disable_expensive_passes": True,
            }
        )
        (dumped,) = Path(folder).glob("*after_spmd-partitioning*.txt")
        partitioned = dumped.read_text("utf-8")
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return Program(
        operations(partitioned, config.accumulate),
        float(memory.argument_size_in_bytes),
        float(memory.temp_size_in_bytes),
        float(cost["flops"]),
    )


def extrapolate(few: Program, more: Program, layers: float) -> Program:
    """The program of so many layers from those of two numbers of layers that differ by one.

    Args:
      layers: beyond those of `few`. Each adds what `more` has over `few`.
    """

    def at(a: float, b: float) -> float:
        return a + layers * (b - a)

    both = [*few.operations, *more.operations]
    counts = {one: at(few.operations.get(one, 0), more.operations.get(one, 0)) for one in both}
    rest = (at(getattr(few, name), getattr(more, name)) for name in ("arguments", "temporaries", "flops"))
    return Program({one: count for one, count in counts.items() if count}, *rest)


def operations(text: str, turns: int = 1) -> Counter[Operation]:
    """Matrix products and collectives of a partitioned program, and how often a device takes part in each.

    Args:
      text: of an HLO module.
      turns: of its loops.
    """
    found: Counter[Operation] = Counter()
    lines = {line.name: line for line in instructions(text, turns)}
    uses: dict[str, set[str]] = {}  # of each array: by which kinds of operation
    for line in lines.values():
        for name in line.operands:
            uses.setdefault(name, set()).add(line.kind)
    for line in lines.values():
        if line.kind == "dot":
            left, right = (lines[name] for name in line.operands)
            (axes,) = re.findall(r"lhs_contracting_dims=\{([\d,]*)\}", line.rest)
            inner = math.prod(left.shape[int(axis)] for axis in axes.split(",") if axis)
            moved = line.bytes + left.bytes + right.bytes
            found[Operation("dot", moved, 2 * inner * math.prod(line.shape))] += line.times
        elif line.kind in KINDS:
            sliced = line.kind == "all-reduce" and uses.get(line.name) == {"dynamic-slice"}
            kind = "reduce-scatter" if sliced else line.kind
            found[Operation(kind, line.bytes, group=line.group)] += line.times
    return found


# --- memory --------------------------------------------------------------------------------------------------------


def memory(config: Config, mesh: Mesh, itemsize: int | None = None) -> dict[str, float]:
    """Bytes on each device by formula.

    Args:
      itemsize: bytes of an activation; those of `config.dtype` where None.
    """
    state = jax.eval_shape(lambda: step.init(config))
    placed = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        state, sharding.of_tree(state, mesh),
    )  # fmt: skip
    item = itemsize or jnp.dtype(config.dtype).itemsize
    parts = mesh.shape.get("tensor", 1)
    tokens = config.batch * config.context / config.accumulate / _batch_parts(mesh)
    scores = tokens * config.heads / parts * config.context
    inputs = tokens * config.width * item
    # norms' results and the residual; query, key, value, turned and mixed; the MLP's two; float32 scores and weights
    block = inputs * (3 + 6 / parts) + 2 * tokens * config.hidden / parts * item + scores * (4 + item)
    logits = tokens * config.vocab / parts * (item + 2 * 4)  # float32 from the loss on, and their gradient
    return {
        "parameters": bytes_per_device(placed.params),
        "moving average": bytes_per_device(placed.ema),
        "optimizer": bytes_per_device(placed.optimizer),
        "gradients": bytes_per_device(placed.params),
        "activations": (config.layers + 1) * inputs + max(block, logits)
        if config.remat
        else inputs + config.layers * block + logits,
    }


def _batch_parts(mesh: Mesh) -> int:
    return mesh.shape.get("data", 1) * mesh.shape.get("fsdp", 1)


def flops(config: Config, again: bool = False) -> float:
    """Of one step's matrix products on all devices, by formula: forward, and twice that backward.

    Args:
      again: add what `remat` computes again, all of a block but its last product. A model's FLOPs utilization (MFU)
        leaves it out.
    """
    tokens = config.batch * config.context
    attention = 2 * config.width * config.context  # scores and mixing, of all pairs of tokens
    block = 4 * config.width**2 + 2 * config.width * config.hidden + attention
    model = 6.0 * tokens * (config.layers * block + config.vocab * config.width)
    return model + (2.0 * tokens * config.layers * (block - config.width * config.hidden) if again else 0.0)


# --- time ----------------------------------------------------------------------------------------------------------


def seconds_of(one: Operation, accelerator: Accelerator) -> float:
    """Of one operation on a device, under `ASSUMPTIONS`."""
    if one.kind == "dot":
        return max(one.flops / accelerator.peak, one.bytes / accelerator.memory_rate)
    n = len(one.group)
    near = sum(device // accelerator.island == one.group[0] // accelerator.island for device in one.group)
    rate = accelerator.link if near == n else min(accelerator.link, near * accelerator.network)
    share = {"collective-permute": 1.0, "all-reduce": 2 * (n - 1) / n}.get(one.kind, (n - 1) / n)
    return share * one.bytes / rate


def roofline(program: Program, config: Config, mesh: Mesh, name: str, state: dict[str, float]) -> dict[str, Any]:
    """Milliseconds of one step on the accelerator of that name, a row of the table."""
    accelerator = ACCELERATORS[name]
    products, sent = 0.0, {"tensor": 0.0, "batch": 0.0}
    for one, count in program.operations.items():
        if one.kind == "dot":
            products += count * seconds_of(one, accelerator)
        else:
            sent["tensor" if axes_of(one, mesh) == "tensor" else "batch"] += count * seconds_of(one, accelerator)
    kept = state["parameters"] + state["moving average"] + state["optimizer"]
    update = (2 * kept + state["gradients"]) / accelerator.memory_rate
    computing, sending = products + update, sum(sent.values())
    best, worst = max(computing, sending), computing + sending
    return {
        "name": name,
        "products ms": 1e3 * products,
        "optimizer ms": 1e3 * update,
        "sent on tensor ms": 1e3 * sent["tensor"],
        "sent on data, fsdp ms": 1e3 * sent["batch"],
        "overlapped ms": 1e3 * best,
        "one after the other ms": 1e3 * worst,
        "tokens/s": config.batch * config.context / worst,
        "MFU": flops(config) / mesh.size / accelerator.peak / worst,
        "share of memory": sum(state.values()) / accelerator.memory,
    }


def axes_of(one: Operation, mesh: Mesh) -> str:
    """The axes of the mesh along which a collective's devices lie, "data, tensor"."""
    places = np.stack(np.unravel_index(one.group, mesh.devices.shape), axis=-1)  # (devices, axes)
    return ", ".join(
        name for name, along in zip(mesh.axis_names, places.T, strict=True) if len(set(along.tolist())) > 1
    )


# --- the program ---------------------------------------------------------------------------------------------------


def plan(config: Config, mesh: Mesh, accelerators: list[str], whole: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Tables of rows: setting, memory, collectives and time.

    Args:
      whole: compile all layers. Otherwise two and three are compiled, and the others counted like the third.
    """
    start = time.perf_counter()
    if whole or config.layers <= 3:
        program, compiled = compile_step(config, mesh), str(config.layers)
    else:
        few, more = (compile_step(dataclasses.replace(config, layers=layers), mesh) for layers in (2, 3))
        program, compiled = extrapolate(few, more, config.layers - 2), "2 and 3"
    took = time.perf_counter() - start
    ours, widened = memory(config, mesh), memory(config, mesh, itemsize=4)
    products = sum(one.flops * count for one, count in program.operations.items())
    parameters = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: step.init(config)).params))
    sent: dict[tuple[str, str], list[float]] = {}
    for one, count in program.operations.items():
        if one.kind != "dot":
            row = sent.setdefault((axes_of(one, mesh), one.kind), [0, 0.0])
            row[0] += count
            row[1] += count * one.bytes
    setting = {
        "parameters": parameters, "layers": config.layers, "width": config.width, "heads": config.heads,
        "vocab": config.vocab, "context": config.context, "batch": config.batch, "accumulate": config.accumulate,
        "dtype": config.dtype, "remat": config.remat, "mesh": ", ".join(f"{a}={n}" for a, n in mesh.shape.items()),
        "devices": mesh.size, "layers compiled": compiled, "seconds to compile": round(took, 1),
        "TFLOPs a device, products": products / 1e12, "TFLOPs a device, XLA": program.flops / 1e12,
        "TFLOPs a device, formula": flops(config, again=config.remat) / mesh.size / 1e12,
    }  # fmt: skip
    state = {name: ours[name] for name in ("parameters", "moving average", "optimizer")}
    temporary = {name: ours[name] for name in ("gradients", "activations")}
    lines = [
        *((name, size, None) for name, size in state.items()),
        ("state and batch", sum(state.values()), program.arguments),
        *((name, size, None) for name, size in temporary.items()),
        ("state, gradients and activations", sum(ours.values()), None),
        ("gradients and activations in float32", sum(widened[name] for name in temporary), program.temporaries),
    ]
    return {
        "setting": [{"name": name, "value": value} for name, value in setting.items()],
        "memory of a device, GB": [
            {"name": name, "formula": formula / 1e9, "XLA for CPU": xla and xla / 1e9} for name, formula, xla in lines
        ],
        "collectives of a device": [
            {"name": kind, "along": axes, "count": round(count), "GB": size / 1e9}
            for (axes, kind), (count, size) in sorted(sent.items())
        ]
        or [{"name": "none", "along": "", "count": 0, "GB": 0.0}],
        "time of a step": [roofline(program, config, mesh, name, ours) for name in accelerators],
    }


def settings(arguments: list[str]) -> tuple[argparse.Namespace, Config]:
    """What the command line asks for; what `argparse` does not know goes to `Config`.

    Raises:
      OptionError, sharding.MeshError: it makes no sense.
    """
    parser = argparse.ArgumentParser(
        prog="python -m examples.language_model.plan", description=__doc__.split("\n\n")[0],
        epilog="All options of examples.language_model.train that say what the model is, and --batch and --accumulate.",
    )  # fmt: skip
    parser.add_argument("--params", required=True, help="about so many parameters: 350M, 1B, 8B")
    parser.add_argument("--mesh", required=True, help="data=32,tensor=8")
    parser.add_argument("--accelerator", default="h100", help=f"one or more of {','.join(ACCELERATORS)}")
    parser.add_argument("--whole", action="store_true", help="compile every layer instead of two and three")
    parser.add_argument("--json", type=Path, help="write the tables to a file")
    options, rest = parser.parse_known_args(arguments)
    for name in options.accelerator.split(","):
        if name not in ACCELERATORS:
            raise OptionError(f"expected accelerators among {', '.join(ACCELERATORS)}, got {name!r}; take one of them")
    parts = {name.strip(): int(n) for name, _, n in (p.partition("=") for p in options.mesh.split(",")) if n.isdigit()}
    options.devices = max(math.prod(parts.values()), 1)
    if options.devices > MOST:
        raise sharding.MeshError(f"expected at most {MOST} devices, got {options.devices}; take a smaller mesh")
    given = dict(zip(rest[::2], rest[1::2], strict=False))
    try:
        vocab = int(given.get("--vocab", 32768))
    except ValueError:
        vocab = 32768  # Config says what is wrong with it
    rows = 16 * math.prod(parts.get(name, 1) for name in ("data", "fsdp"))
    defaults = {"vocab": vocab, "context": 2048, "batch": rows, "dtype": "bfloat16", "remat": True}
    return options, Config.from_options(rest, **defaults, **shape_of(parse_parameters(options.params), vocab))


def main(arguments: list[str]) -> int:
    try:
        options, config = settings(arguments)
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", options.devices)
        mesh = sharding.make_mesh(options.mesh)
        tables = plan(config, mesh, options.accelerator.split(","), options.whole)
    except (OptionError, sharding.MeshError) as error:
        print(error, file=sys.stderr)
        return 2
    for title, rows in tables.items():
        print(f"\n{title}")
        print_table(rows)
    print(f"\nassumptions\n{ASSUMPTIONS}")
    for name in options.accelerator.split(","):
        print(f"{name}: {ACCELERATORS[name]}")
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
