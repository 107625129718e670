"""Saving and loading

What is saved is a tree of arrays: parameters, statistics, optimizer state, step. Orbax writes it into a folder and
restores it into an example of the same tree. What does not fit is Orbax's to refuse; `nnx.update` refuses nothing.
"""

import contextlib
import copy
import io
import pickle
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import torch
from flax import linen as nn
from flax import nnx, serialization, traverse_util
from jax.sharding import SingleDeviceSharding

from rosetta.kinds import Pair, folder, normal, raises
from rosetta.optimizers import layer, model, params

LESSON = "03_state_and_trees"
NO_GRADIENT = "what is read from a file has no gradient"


def adam(rng):
    """torch's Adam after a step with gradients of one; `state` is Optax's."""
    layer = model(rng)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer


def state(rng):
    rule, weights = optax.adam(1e-3), params(rng)
    return rule.update(jax.tree.map(jnp.ones_like, weights), rule.init(weights))[1]


class SaveWeights(Pair):
    """Save and load a model's weights"""

    inputs = {"model": model, "layer": layer, "params": params, "folder": folder()}
    also = ("torch.save", "torch.load", "nn.Module.state_dict", "nn.Module.load_state_dict")
    no_gradient = NO_GRADIENT
    note = (
        "Leaving the `with` waits until all is written. The path must be absolute. The second argument of `restore` is "
        "an example of the tree; `nnx.update` writes a restored one back."
    )

    def torch(model, folder):
        torch.save(model.state_dict(), folder / "model.pt")
        model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
        return model.bias, model.weight.T

    def nnx(layer, folder):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "model", nnx.state(layer))
        with ocp.StandardCheckpointer() as checkpointer:
            nnx.update(layer, checkpointer.restore(folder / "model", nnx.state(layer)))
        return layer.bias[...], layer.kernel[...]

    def linen(params, folder):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "model", params)
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(folder / "model", params)


class OptimizerState(Pair):
    """Save the optimizer's state"""

    inputs = {"adam": adam, "state": state, "params": params, "folder": folder()}
    also = ("optim.Optimizer.state_dict", "optim.Optimizer.load_state_dict")
    no_gradient = NO_GRADIENT
    trap = (
        "Restored without an example of the tree, Optax's states come back as lists and dicts, and the next `update` "
        "raises. Give an example: a fresh state, or its `jax.eval_shape`."
    )
    lesson = ("05b_checkpoints", "trap:optimizer-state")

    def torch(adam, folder):
        torch.save(adam.state_dict(), folder / "adam.pt")
        adam.load_state_dict(torch.load(folder / "adam.pt", weights_only=True))
        return adam.state_dict()["state"][0]["exp_avg"].T

    def jax(state, folder):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "adam", state)
        with ocp.StandardCheckpointer() as checkpointer:
            state = checkpointer.restore(folder / "adam")
        return state[0].mu["kernel"]

    def fix(state, params, folder):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "adam", state)
        with ocp.StandardCheckpointer() as checkpointer:
            state = checkpointer.restore(folder / "adam", optax.adam(1e-3).init(params))
        return state[0].mu["kernel"]

    def differ(theirs, ours):
        return isinstance(ours, AttributeError) and theirs.shape == (3, 1)


class Overwrite(Pair):
    """Save to the same place again"""

    inputs = {"x": normal(3), "folder": folder()}
    no_gradient = NO_GRADIENT
    trap = "`torch.save` overwrites; Orbax raises where the folder exists."
    lesson = ("05b_checkpoints", "trap:overwrite")

    def torch(x, folder):
        torch.save(x, folder / "x.pt")
        torch.save(2 * x, folder / "x.pt")
        return torch.load(folder / "x.pt", weights_only=True)

    def jax(x, folder):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "x", {"x": x})
            checkpointer.wait_until_finished()
            checkpointer.save(folder / "x", {"x": 2 * x})

    def fix(x, folder):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "x", {"x": x})
            checkpointer.save(folder / "x", {"x": 2 * x}, force=True)
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(folder / "x", {"x": x})["x"]

    def differ(theirs, ours):
        return isinstance(ours, ValueError) and "already exists" in str(ours)


class KeepTheBest(Pair):
    """Keep the best weights in memory"""

    inputs = {"model": model, "layer": layer, "params": params}
    no_gradient = NO_GRADIENT
    note = "`state_dict()` and `nnx.state` refer to live arrays: without a copy they follow the training."

    def torch(model):
        best = copy.deepcopy(model.state_dict())
        model.weight.data.zero_()
        model.load_state_dict(best)
        return model.bias, model.weight.T

    def nnx(layer):
        best = jax.tree.map(jnp.copy, nnx.state(layer))
        layer.kernel[...] = jnp.zeros((3, 1))
        nnx.update(layer, best)
        return layer.bias[...], layer.kernel[...]

    def linen(params):
        best = params  # arrays do not change
        params = jax.tree.map(jnp.zeros_like, params)
        return best

    def claims():
        layer = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        state = nnx.state(layer)
        layer.kernel[...] = jnp.full((2, 2), 7.0)
        assert (state["kernel"][...] == 7).all()


class PartialLoad(Pair):
    """Load some of the weights"""

    inputs = {"model": model, "layer": layer, "params": params}
    no_gradient = NO_GRADIENT

    def torch(model):
        model.load_state_dict({"bias": torch.ones(1)}, strict=False)
        return model.bias, model.weight.T

    def nnx(layer):
        nnx.update(layer, {"bias": jnp.ones(1)})
        return layer.bias[...], layer.kernel[...]

    def linen(params):
        return {**params, "bias": jnp.ones(1)}


class StrictLoad(Pair):
    """Load weights that do not fit"""

    inputs = {"model": model, "layer": layer}
    also = ("nn.Module.load_state_dict",)
    no_gradient = NO_GRADIENT
    trap = (
        "`load_state_dict` raises for missing, surplus and misshapen weights. `nnx.update` takes them all, without a "
        "word. Compare the trees of shapes first."
    )
    lesson = ("03_state_and_trees", "trap:strict-load")

    def torch(model):
        model.load_state_dict({"weight": torch.ones(1, 5), "scale": torch.ones(1)})

    def nnx(layer):
        nnx.update(layer, {"kernel": jnp.ones((5, 1)), "scale": jnp.ones(1)})
        return layer.kernel.shape

    def fix(layer):
        given = {"kernel": jnp.ones((5, 1)), "scale": jnp.ones(1)}
        wanted = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
        if jax.tree.map(jnp.shape, given) == jax.tree.map(jnp.shape, wanted):
            nnx.update(layer, given)

    def differ(theirs, ours):
        return isinstance(theirs, RuntimeError) and ours == (5, 1)


class Assign(Pair):
    """Assign a tensor to a weight"""

    inputs = {"model": model, "layer": layer}
    no_gradient = NO_GRADIENT
    trap = (
        "PyTorch raises. NNX replaces the `Param` by the array: it is no longer a parameter, and is not trained (flax "
        "0.12.0 raises when a gradient is taken). Write into the box."
    )
    lesson = ("03_state_and_trees", "trap:assign")

    def torch(model):
        model.bias = torch.ones(1)

    def nnx(layer):
        layer.bias = jnp.ones(1)
        return len(jax.tree.leaves(nnx.state(layer, nnx.Param)))

    def fix(layer):
        layer.bias[...] = jnp.ones(1)

    def differ(theirs, ours):
        return isinstance(theirs, TypeError) and ours == 1  # of two


class ReadPt(Pair):
    """Read a .pt file"""

    inputs = {"model": model, "folder": folder()}
    no_gradient = NO_GRADIENT
    note = (
        "A dense kernel is the transpose; other layers have layouts of their own, which `course.porting` knows. Its "
        "`read_checkpoint` gives NumPy arrays, of a .npz or .safetensors file without PyTorch, and `arrays_to_nnx` and "
        "`arrays_to_linen` put them into a model."
    )

    def torch(model, folder):
        torch.save(model.state_dict(), folder / "model.pt")
        state = torch.load(folder / "model.pt", weights_only=True)
        return state["bias"], state["weight"].T

    def jax(model, folder):
        torch.save(model.state_dict(), folder / "model.pt")
        state = torch.load(folder / "model.pt", weights_only=True, map_location="cpu")
        return jnp.array(state["bias"].numpy()), jnp.array(state["weight"].numpy().T)


class OneFile(Pair):
    """Everything in one file"""

    inputs = {"params": params, "model": model, "folder": folder()}
    no_gradient = NO_GRADIENT
    note = "For flat dicts of arrays; NumPy returns bfloat16 as raw bytes (`V2`), so save that as float32."

    def torch(model, folder):
        torch.save(model.state_dict(), folder / "model.pt")
        state = torch.load(folder / "model.pt", weights_only=True)
        return state["bias"], state["weight"].T

    def jax(params, folder):
        np.savez(folder / "model.npz", **params)
        with np.load(folder / "model.npz") as file:
            return {name: jnp.asarray(file[name]) for name in file}

    def claims():
        buffer = io.BytesIO()
        np.savez(buffer, w=jnp.ones(3, jnp.bfloat16))
        buffer.seek(0)
        assert np.load(buffer)["w"].dtype == "V2"


class ToBytes(Pair):
    """To bytes and back"""

    inputs = {"model": model, "params": params}
    no_gradient = NO_GRADIENT
    note = "`pickle` works for trees of arrays as well; `from_bytes` gives NumPy arrays, and does not compare shapes."

    def torch(model):
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        buffer.seek(0)
        state = torch.load(buffer, weights_only=True)
        return state["bias"], state["weight"].T

    def jax(params):
        data = serialization.to_bytes(params)
        return serialization.from_bytes(params, data)

    def claims():
        wide = serialization.from_bytes({"w": jnp.ones(2)}, serialization.to_bytes({"w": jnp.ones(3)}))["w"]
        assert wide.shape == (3,) and type(wide) is np.ndarray
        assert (pickle.loads(pickle.dumps({"w": jnp.ones(3)}))["w"] == 1).all()


class WhatDidNotFit(Pair):
    """Which weights are missing or unexpected"""

    inputs = {"model": model, "layer": layer, "params": params}
    no_gradient = NO_GRADIENT

    def torch(model):
        keys = model.load_state_dict({"bias": torch.ones(1), "scale": torch.ones(1)}, strict=False)
        return [name == "weight" for name in keys.missing_keys], [name == "scale" for name in keys.unexpected_keys]

    def nnx(layer):
        given = {"bias": jnp.ones(1), "scale": jnp.ones(1)}
        wanted = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
        missing, unexpected = sorted(wanted.keys() - given), sorted(given.keys() - wanted)
        return [name == "kernel" for name in missing], [name == "scale" for name in unexpected]

    def linen(params):
        given = {"bias": jnp.ones(1), "scale": jnp.ones(1)}
        missing, unexpected = sorted(params.keys() - given), sorted(given.keys() - params)
        return [name == "kernel" for name in missing], [name == "scale" for name in unexpected]


class MapLocation(Pair):
    """Load to another device (map_location)"""

    inputs = {"x": normal(3), "folder": folder()}
    no_gradient = NO_GRADIENT
    also = ("torch.load",)
    note = "The example tells Orbax shapes, types and where each array is to lie, whatever machine wrote it."

    def torch(x, folder):
        torch.save({"x": x}, folder / "x.pt")
        return torch.load(folder / "x.pt", map_location="cpu", weights_only=True)["x"]

    def jax(x, folder):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "x", {"x": x})
        example = {"x": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=SingleDeviceSharding(jax.devices()[0]))}
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(folder / "x", example)["x"]


class NoCodeInFiles(Pair):
    """Refuse code in a file (weights_only)"""

    inputs = {"folder": folder()}
    also = ("serialization.add_safe_globals", "serialization.safe_globals")
    note = "Orbax, .npz without `allow_pickle` and .safetensors hold arrays alone; a pickle runs what is in it."

    def torch(folder):
        torch.save({"rule": SimpleNamespace(lr=0.1)}, folder / "x.pt")
        with contextlib.suppress(pickle.UnpicklingError):
            torch.load(folder / "x.pt", weights_only=True)

    def jax(folder):
        np.savez(folder / "x.npz", rule=np.array(SimpleNamespace(lr=0.1)))
        with contextlib.suppress(ValueError):
            np.load(folder / "x.npz")["rule"]

    def claims():
        buffer, arrays = io.BytesIO(), io.BytesIO()
        torch.save({"rule": SimpleNamespace(lr=0.1)}, buffer)
        np.savez(arrays, rule=np.array(SimpleNamespace(lr=0.1)))
        buffer.seek(0), arrays.seek(0)
        assert raises(pickle.UnpicklingError, torch.load, buffer)
        assert raises(ValueError, np.load(arrays).__getitem__, "rule")


class WholeModel(Pair):
    """Save a whole model, class and all"""

    inputs = {"model": model, "layer": layer, "params": params}
    no_gradient = NO_GRADIENT
    note = (
        "Layers of flax cannot all be pickled, as they hold initialisers that are local functions. Pickle the arrays, "
        "and build the model from its code, which must be there in PyTorch too: a pickle holds the name of the class."
    )

    def torch(model):
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=False).weight.T

    def nnx(layer):
        data = pickle.dumps(nnx.to_pure_dict(nnx.state(layer)))
        again = nnx.Linear(3, 1, rngs=nnx.Rngs(1))
        nnx.update(again, pickle.loads(data))
        return again.kernel[...]

    def linen(params):
        data = pickle.dumps(params)
        return pickle.loads(data)["kernel"]

    def claims():
        assert raises((AttributeError, pickle.PicklingError), pickle.dumps, nn.Dense(1))


class SafeTensors(Pair):
    """Read and write safetensors"""

    inputs = {"x": normal(3, 2), "folder": folder()}
    no_gradient = NO_GRADIENT

    def torch(x, folder):
        from safetensors.torch import load_file, save_file

        save_file({"kernel": x}, folder / "x.safetensors")
        return load_file(folder / "x.safetensors")

    def jax(x, folder):
        from safetensors.flax import load_file, save_file

        save_file({"kernel": x}, folder / "x.safetensors")
        return load_file(folder / "x.safetensors")


class KeepLastTwo(Pair):
    """Keep the last checkpoints only"""

    inputs = {"x": normal(3), "folder": folder()}
    no_gradient = NO_GRADIENT
    note = "The manager writes while the training goes on, and `latest_step()` says where a killed run goes on."

    def torch(x, folder):
        for step in range(3):
            torch.save({"x": step * x}, folder / f"{step}.pt")
            (folder / f"{step - 2}.pt").unlink(missing_ok=True)
        return torch.load(folder / "2.pt", weights_only=True)["x"], sorted(int(f.stem) for f in folder.iterdir())

    def jax(x, folder):
        with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=2)) as manager:
            for step in range(3):
                manager.save(step, args=ocp.args.StandardSave({"x": step * x}))
            manager.wait_until_finished()
            return manager.restore(2, args=ocp.args.StandardRestore({"x": x}))["x"], sorted(manager.all_steps())


class RandomState(Pair):
    """Save the state of the random numbers"""

    inputs = {"folder": folder()}
    also = (
        "torch.get_rng_state",
        "torch.set_rng_state",
        "cuda.get_rng_state",
        "Generator.get_state",
        "random.get_rng_state",
        "random.set_rng_state",
        "cuda.set_rng_state",
    )
    note = "A key is the whole state. `key_data` makes numbers of it, which any format holds."

    def torch(folder):
        torch.save(torch.get_rng_state(), folder / "rng.pt")
        before = torch.rand(3)
        torch.set_rng_state(torch.load(folder / "rng.pt", weights_only=True))
        return torch.equal(torch.rand(3), before)

    def jax(folder):
        key = jax.random.key(0)
        np.save(folder / "key.npy", jax.random.key_data(key))
        again = jax.random.wrap_key_data(np.load(folder / "key.npy"))
        return jnp.array_equal(jax.random.uniform(key, 3), jax.random.uniform(again, 3))


class RenameWeights(Pair):
    """Rename weights"""

    inputs = {"model": model, "params": params}
    no_gradient = NO_GRADIENT
    also = ("nn.modules.utils.consume_prefix_in_state_dict_if_present",)
    note = (
        "`flax.traverse_util.flatten_dict(params, sep='.')` makes flat names of a nested tree, `unflatten_dict` goes "
        "back."
    )

    def torch(model):
        wrapped = {f"module.{name}": p for name, p in model.state_dict().items()}
        plain = {name.removeprefix("module."): p for name, p in wrapped.items()}
        return plain["bias"], plain["weight"].T

    def jax(params):
        wrapped = traverse_util.flatten_dict({"module": params}, sep=".")
        plain = {name.removeprefix("module."): p for name, p in wrapped.items()}
        return traverse_util.unflatten_dict(plain, sep=".")


class BatchStatistics(Pair):
    """Running statistics in a checkpoint"""

    inputs = {"x": normal(8, 3)}
    no_gradient = NO_GRADIENT
    trap = (
        "`state_dict()` holds the buffers too. `nnx.state(model, nnx.Param)` and Linen's `params` do not: loaded from "
        "these alone, batch norm evaluates with its first statistics."
    )
    lesson = ("05b_checkpoints", "trap:batch-statistics")

    def torch(x):
        norm = torch.nn.BatchNorm1d(3)
        norm(x)
        return sorted(name for name in norm.state_dict() if "running" in name)

    def nnx(x):
        norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        norm(x)
        return sorted(nnx.state(norm, nnx.Param))

    def linen(x):
        variables = nn.BatchNorm().init(jax.random.key(0), x, use_running_average=True)
        return sorted(variables["params"])

    def fix(x):
        norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        norm(x)
        saved = nnx.state(norm)  # Linen: {"params": ..., "batch_stats": ...}
        return sorted(f"running_{name}" for name in saved if name in ("mean", "var"))

    def differ(theirs, ours):
        return theirs == ["running_mean", "running_var"] and ours == ["bias", "scale"]
