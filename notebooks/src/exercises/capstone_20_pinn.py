# %% [markdown]
# # Capstone after 20 · A physics-informed network
#
# **Can you move a whole PINN from PyTorch to JAX, and show that it is the same run?** (15 minutes)

# %% [markdown]
# A capstone to the lessons up to [20](../20_high_order_pdes.ipynb), in five parts. First a PyTorch program, whole; then
# your migration, part by part, each checked against it in float64. Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from course import checks, optimizers, taylor

jax.config.update("jax_enable_x64", True)  # float64 on both sides: a run can be compared step for step
torch.set_num_threads(1)

# %% [markdown]
# ## The program
#
# A beam on two hinges swings: $u_{tt} + c\,u_{xxxx} = 0$ for $t$ and $x$ from 0 to 1, hinged ends ($u = u_{xx} = 0$),
# at rest at $t = 0$ in the shape $\sin \pi x$. With the stiffness `STIFFNESS` for $c$ the exact solution is $\sin(\pi
# x)\cos(2t)$. The network takes points `(n, 2)` with columns `t` and `x`:

# %%
STIFFNESS = (2 / np.pi**2) ** 2  # u = sin(pi x) cos(2 t) solves u_tt + STIFFNESS u_xxxx = 0


class BeamNet(torch.nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.first = torch.nn.Linear(2, width)
        self.second = torch.nn.Linear(width, width)
        self.last = torch.nn.Linear(width, 1, bias=False)
        self.double()

    def forward(self, points):  # (n, 2), columns t and x
        z = torch.tanh(self.first(2 * points - 1))
        z = z + torch.tanh(self.second(z))
        return self.last(z)


# %% [markdown]
# The residual takes derivatives by `autograd.grad`, six times in all:


# %%
def slope_torch(values, points, column):
    return torch.autograd.grad(values.sum(), points, create_graph=True)[0][:, [column]]


def beam_residual_torch(model, points):
    points = points.clone().requires_grad_()
    u = model(points)
    u_tt = slope_torch(slope_torch(u, points, 0), points, 0)
    u_xx = slope_torch(slope_torch(u, points, 1), points, 1)
    u_xxxx = slope_torch(slope_torch(u_xx, points, 1), points, 1)
    return u_tt + STIFFNESS * u_xxxx


# %% [markdown]
# Nothing is built in here: start and ends are terms of the loss, with weights.


# %%
def beam_loss_torch(model, inside, start, ends):
    start, ends = start.clone().requires_grad_(), ends.clone().requires_grad_()
    u_start, u_ends = model(start), model(ends)
    u_t = slope_torch(u_start, start, 0)
    u_xx = slope_torch(slope_torch(u_ends, ends, 1), ends, 1)
    at_start = (u_start - torch.sin(torch.pi * start[:, [1]])) ** 2 + u_t**2
    at_ends = u_ends**2 + 0.1 * u_xx**2  # hinged: no deflection, no bending
    return (beam_residual_torch(model, inside) ** 2).mean() + 10 * at_start.mean() + 5 * at_ends.mean()


# %% [markdown]
# New points in each step, Adam with `weight_decay`, a rate that falls every ten steps, clipped gradients; and the
# error on a grid afterwards:


# %%
def draw_points(steps, n, seed):
    generator = torch.Generator().manual_seed(seed)
    inside, start, ends = (
        torch.rand(steps, m, 2, generator=generator, dtype=torch.float64) for m in (n, n // 4, n // 4)
    )
    start[..., 0] = 0  # t
    ends[..., 1] = (ends[..., 1] > 0.5).double()  # x
    return inside, start, ends


def train_torch(model, points):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.95)
    losses = []
    for inside, start, ends in zip(*points, strict=True):
        optimizer.zero_grad()
        loss = beam_loss_torch(model, inside, start, ends)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


# %%
def beam_error_torch(model):
    grid = torch.linspace(0, 1, 41, dtype=torch.float64)
    t, x = torch.meshgrid(grid, grid, indexing="ij")
    exact = torch.sin(torch.pi * x) * torch.cos(2 * t)
    with torch.no_grad():
        found = model(torch.stack([t, x], dim=-1).reshape(-1, 2)).reshape(41, 41)
    return float(torch.linalg.norm(found - exact) / torch.linalg.norm(exact))


torch.manual_seed(0)
model = BeamNet()
start_arrays = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
points = draw_points(steps=400, n=64, seed=1)
losses_torch = train_torch(model, points)
print("loss, steps 0, 100, 200, 300, 399:", *(f"{losses_torch[step]:.3f}" for step in (0, 100, 200, 300, 399)))
print(f"relative L2 error {beam_error_torch(model):.2f}")

# %% [markdown]
# Not solved yet: a real run has some ten thousand steps, and would build the conditions in. For a migration
# that does not matter: the JAX run has to make the *same* errors.

# %% [markdown]
# ## Exercise 1: The model (3 minutes)
#
# **Given** `arrays`, the model's `state_dict()` as NumPy arrays: a dict of names like `"first.weight"`.
#
# **Asked** for two functions: `params_from_torch(arrays)`, any tree of JAX arrays, and `network(params, point)`, a
# scalar field, from one point `(2,)` to a number `()`. No batch: `jax.vmap` makes it.
#
# **Checked** against `BeamNet` with random weights and widths, in float64.


# %% tags=["stub"]
def params_from_torch(arrays):
    raise NotImplementedError("your turn")


def network(params, point):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def params_from_torch(arrays):
    params = {}
    for name, array in arrays.items():
        layer, part = name.split(".")
        params.setdefault(layer, {})[part] = jnp.asarray(array.T)  # torch multiplies by the transpose
    return params


def network(params, point):
    first, second, last = (params[layer] for layer in ("first", "second", "last"))
    z = jnp.tanh((2 * point - 1) @ first["weight"] + first["bias"])
    z = z + jnp.tanh(z @ second["weight"] + second["bias"])
    return (z @ last["weight"])[0]


# %%
checks.pinn_model(params_from_torch, network)

# %% [markdown]
# ## Exercise 2: The residual (2 minutes)
#
# **Given** a scalar field `u`, `(2,) -> ()`, and a point `(t, x)` of shape `(2,)`.
#
# **Asked** for $u_{tt} + c\,u_{xxxx}$ there. `course.taylor` has a jet for each direction.
#
# **Checked** against the program's nested `autograd.grad`, for random networks.


# %% tags=["stub"]
def beam_residual(u, point):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def beam_residual(u, point):
    along_t, along_x = jnp.eye(2, dtype=point.dtype)
    return taylor.derivatives(u, point, along_t, 2)[2] + STIFFNESS * taylor.derivatives(u, point, along_x, 4)[4]


# %%
checks.pinn_residual(beam_residual)

# %% [markdown]
# ## Exercise 3: The loss (3 minutes)
#
# **Given** a scalar field `u`, and points as the program draws them: `inside` `(n, 2)`, `start` `(m, 2)` with
# $t = 0$, `ends` `(k, 2)` with $x = 0$ or $1$.
#
# **Asked** for the loss, three means with their weights.
#
# **Checked** against the program's, for random networks and numbers of points.


# %% tags=["stub"]
def beam_loss(u, inside, start, ends):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def beam_loss(u, inside, start, ends):
    along_t, along_x = jnp.eye(2, dtype=inside.dtype)

    def at_start(point):
        value, u_t = jax.jvp(u, (point,), (along_t,))
        return (value - jnp.sin(jnp.pi * point[1])) ** 2 + u_t**2

    def at_ends(point):
        value, _, u_xx = taylor.derivatives(u, point, along_x, 2)
        return value**2 + 0.1 * u_xx**2

    of_residual = jax.vmap(lambda point: beam_residual(u, point) ** 2)(inside).mean()
    return of_residual + 10 * jax.vmap(at_start)(start).mean() + 5 * jax.vmap(at_ends)(ends).mean()


# %%
checks.pinn_loss(beam_loss)

# %% [markdown]
# ## Exercise 4: The optimizer (2 minutes)
#
# **Given** `train_torch`, in the program.
#
# **Asked** for `make_optimizer()`, one optax transformation that does what `clip_grad_norm_`, `Adam` with its
# `weight_decay`, and `StepLR` do together in `train_torch`, in their order; to be run under `jax.jit`.
#
# **Checked** with random parameters and gradients, short ones and long ones, over 25 steps of torch's three.


# %% tags=["stub"]
def make_optimizer():
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def make_optimizer():
    return optax.chain(
        optimizers.clip_by_global_norm(1.0),  # with torch's 1e-6 in the denominator
        optax.add_decayed_weights(1e-4),  # to the gradient, before Adam's moments: torch's Adam, not AdamW
        optax.adam(optax.exponential_decay(1e-2, transition_steps=10, decay_rate=0.95, staircase=True)),
    )


# %%
checks.pinn_optimizer(make_optimizer)

# %% [markdown]
# ## Exercise 5: The run (3 minutes)
#
# **Given** `arrays` as in exercise 1, and `points`, as `draw_points` returns them but as NumPy arrays: three arrays
# `(steps, n, 2)`, `(steps, m, 2)`, `(steps, k, 2)`.
#
# **Asked** for `(losses, u)`: the loss before each step, of shape `(steps,)`, and the trained scalar field.
#
# **Checked** against `train_torch` from the same weights on the same points: the first loss, all losses, and the
# trained network at other points.


# %% tags=["stub"]
def train(arrays, points):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def train(arrays, points):
    optimizer, params = make_optimizer(), params_from_torch(arrays)

    def step(state, points):
        params, opt_state = state
        loss, grads = jax.value_and_grad(lambda p: beam_loss(lambda z: network(p, z), *points))(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    start = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(step, start, tuple(jnp.asarray(part) for part in points))
    return losses, lambda z: network(params, z)


# %%
checks.pinn_run(train)

# %% [markdown]
# Back to the [lesson](../20_high_order_pdes.ipynb), or on to the next one:
# [22 · Functional derivatives](../22_functional_derivatives.ipynb). [Solutions](../solutions/capstone_20_pinn.ipynb).
