# %% [markdown]
# # 20 · Exercises: Third and fourth order
#
# **Can you write and solve an equation of the fourth order that no lesson has written for you?** (15 minutes)

# %% [markdown]
# Five exercises to the [lesson](../20_high_order_pdes.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp

from course import checks, pde, taylor

# %% [markdown]
# ## Exercise 1: A flame front (2 minutes)
#
# The Kuramoto-Sivashinsky equation describes flames and thin films that never come to rest:
#
# $$u_t + u\,u_x + u_{xx} + u_{xxxx} = 0 .$$
#
# **Given** a function `u` of a point `(t, x)`, an array of shape `(2,)`, and such a point.
#
# **Asked** for the residual there. A jet along $x$ has most of it.
#
# **Checked** with random functions against derivatives by hand, in float64.


# %% tags=["stub"]
def flame_residual(u, point):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def flame_residual(u, point):
    along_t, along_x = jnp.eye(2, dtype=point.dtype)
    value, u_x, u_xx, _, u_xxxx = taylor.derivatives(u, point, along_x, 4)
    u_t = jax.jvp(u, (point,), (along_t,))[1]
    return u_t + value * u_x + u_xx + u_xxxx


# %%
checks.flame_residual(flame_residual)

# %% [markdown]
# ## Exercise 2: Clamped and propped (2 minutes)
#
# A beam from $x = 0$ to $x = 1$ is clamped into a wall on the left, at height `a` and with slope `s`, and rests on a
# prop on the right, at height `b`, where it may take any slope:
#
# $$u(0) = a, \qquad u'(0) = s, \qquad u(1) = b .$$
#
# **Given** a network, `() -> ()`, and the three numbers.
#
# **Asked** for the ansatz: a function of `x`, `() -> ()`, of the form lift plus factor times network, that meets the
# three conditions with any network, and no fourth.
#
# **Checked** with random networks: values and slopes at both ends by `jax.grad`, and the factor between them.


# %% tags=["stub"]
def beam_ansatz(network, a, s, b):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def beam_ansatz(network, a, s, b):
    def u(x):
        lift = a + s * x + (b - a - s) * x**2
        return lift + x**2 * (1 - x) * network(x)

    return u


# %%
checks.beam_ansatz(beam_ansatz)

# %% [markdown]
# ## Exercise 3: A mixed term from lines (2 minutes)
#
# A jet sees a function along one line.
#
# **Given** `third(v)`, the third derivative of a function $u(x, y)$, which you cannot open, along any direction `v` of
# shape `(2,)`:
#
# $$D^3u[v] = v_x^3\,u_{xxx} + 3\,v_x^2 v_y\,u_{xxy} + 3\,v_x v_y^2\,u_{xyy} + v_y^3\,u_{yyy} .$$
#
# **Asked** for $u_{xxy}$, from at most four calls of `third`.
#
# **Checked** with random third derivatives; calls are counted.


# %% tags=["stub"]
def u_xxy_from_lines(third):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def u_xxy_from_lines(third):
    up, down, u_yyy = (third(jnp.array(v)) for v in ([1.0, 1.0], [1.0, -1.0], [0.0, 1.0]))
    return (up - down - 2 * u_yyy) / 6  # the difference keeps what is odd in y: 6 u_xxy + 2 u_yyy


# %%
checks.u_xxy_from_lines(u_xxy_from_lines)

# %% [markdown]
# ## Exercise 4: A beam on soft ground (4 minutes)
#
# A beam on springs of stiffness `k`, clamped on both sides, under a load:
#
# $$u'''' + k\,u = \mathrm{load}(x), \qquad u(0) = u'(0) = u(1) = u'(1) = 0 .$$
#
# **Given** `load`, a function of a number `x`, the number `k`, and a `key`.
#
# **Asked** for `u`, a function of `x`, `() -> ()`, with a relative L2 error below 5 %: a network that you train. One
# hidden layer of 16, 32 points a step and 500 steps of `pde.scaled_cosine_adam` at a rate of 2e-2 are enough, if a
# polynomial builds the conditions in and the residual has a sensible size: `u` is about 1, its fourth derivative some
# hundreds.
#
# **Checked** with random loads of known solutions; the conditions at both ends must hold to rounding.


# %% tags=["stub"]
def beam_on_springs(load, k, key):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def beam_on_springs(load, k, key):
    def ansatz(params):
        return lambda z: (4 * z[0] * (1 - z[0])) ** 2 * pde.mlp(params, 2 * z - 1)

    def loss_fn(params, key):
        def square(z):
            value, *_, fourth = taylor.derivatives(ansatz(params), z, jnp.ones(1, z.dtype), 4)
            return ((fourth + k * value - load(z[0])) / 300) ** 2

        return jax.vmap(square)(jax.random.uniform(key, (32, 1))).mean()

    key_init, key_run = jax.random.split(key)
    optimizer = pde.scaled_cosine_adam(500, 2e-2, d=1)
    state = pde.start(pde.init_mlp(key_init, (1, 16, 1)), optimizer, key_run)
    state, _ = pde.train(loss_fn, optimizer, state, 500, chunk=500)
    return lambda x: ansatz(state.params)(jnp.reshape(x, 1))


# %%
checks.beam_on_springs(beam_on_springs)

# %% [markdown]
# ## Exercise 5: Eddies (3 minutes)
#
# A flow in the plane without divergence has a stream function $\psi(t, x)$: its velocity is $v = (\psi_y, -\psi_x)$.
# Where it has viscosity $\nu$ and moves freely, its vorticity $\omega = \mathrm{curl}\,v = \partial_x v_y - \partial_y
# v_x$ is carried along and spreads:
#
# $$\omega_t + v \cdot \nabla \omega - \nu\,\Delta \omega = 0 .$$
#
# **Given** `psi(t, x)`, a function of a number and of a point `(2,)` with a number as its value; the number `nu`; and
# `t` and `x`.
#
# **Asked** for the residual there, in terms of `psi` alone. In $\psi$ it has order 4.
#
# **Checked** with sums of random waves against derivatives by hand, in float64; then with eddies that decay by this
# equation, where it is 0.


# %% tags=["stub"]
def eddy_residual(psi, nu, t, x):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def eddy_residual(psi, nu, t, x):
    def velocity(t, x):
        psi_x, psi_y = jax.grad(psi, argnums=1)(t, x)
        return jnp.stack([psi_y, -psi_x])

    def vorticity(t, x):
        return taylor.curl(lambda x: velocity(t, x), x)

    rate, slope = jax.grad(vorticity, argnums=(0, 1))(t, x)
    return rate + velocity(t, x) @ slope - nu * taylor.laplacian(lambda x: vorticity(t, x), x)


# %%
checks.eddy_residual(eddy_residual)

# %% [markdown]
# Back to the [lesson](../20_high_order_pdes.ipynb), or on to the
# [capstone](capstone_20_pinn.ipynb) and the next lesson:
# [20b · All equations of the papers](../20b_all_equations.ipynb).
# [Solutions](../solutions/20_high_order_pdes.ipynb).
