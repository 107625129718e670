# %% [markdown]
# # 21 · Exercises: An equation of your own
#
# **Can you hand an equation, its conditions and its reference to a solver that has never seen it?** (15 minutes)

# %% [markdown]
# Five exercises to the [lesson](../21_your_own_equation.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from course import checks, pde

# %% [markdown]
# ## Exercise 1: A population that spreads (2 minutes)
#
# A population $u$ spreads in the plane, faster along a slanted direction, is carried along by wind, and grows until it
# is 1 (Fisher's equation, with a drift):
#
# $$u_t + w\,u_x = a\,(u_{xx} + u_{yy}) + b\,u_{xy} + r\,u\,(1 - u) .$$
#
# **Given** a `domain`, a `pde.Box` with the axes t, x and y in any order; a function `u` of a point of shape `(3,)`,
# such a point, and the numbers `w, a, b, r`.
#
# **Asked** for the residual at the point: the left side less the right one.
#
# **Checked** with random functions against derivatives by hand, in float64.


# %% tags=["stub"]
def spreading_residual(domain, u, point, w, a, b, r):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def spreading_residual(domain, u, point, w, a, b, r):
    value, u_t, u_x, u_xx, u_yy, u_xy = domain.derivatives(u, point, "", "t", "x", "xx", "yy", "xy")
    return u_t + w * u_x - a * (u_xx + u_yy) - b * u_xy - r * value * (1 - value)


# %%
checks.spreading_residual(spreading_residual)

# %% [markdown]
# ## Exercise 2: A string, one end on a spring (3 minutes)
#
# A string obeys $u_{tt} = u_{xx}$ on `pde.Box(t=(0, 2), x=(0, 1))`. It starts from a given shape with a given speed,
# both functions of $x$. Its left end is held at 0; the right end hangs on a spring of stiffness $k$:
#
# $$u_x + k\,u = 0 \quad \text{at } x = 1 .$$
#
# **Given** `domain`, the functions `shape` and `speed` of a number $x$, the number `k`, and a `weight`.
#
# **Asked** for the list of conditions that `pde.Problem` is given: all built in, but for that of the spring, which
# can't be and gets the weight.
#
# **Checked** by the ansatz that `pde.Problem` makes of them, with a random network and `jax.grad`, and by the penalty
# of random functions.


# %% tags=["stub"]
def string_conditions(domain, shape, speed, k, weight):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def string_conditions(domain, shape, speed, k, weight):
    def spring(u, point):
        value, u_x = domain.derivatives(u, point, "", "x")
        return u_x + k * value

    return [
        pde.given(t=0, u=lambda point: shape(point[1])),
        pde.given(t=0, u_t=lambda point: speed(point[1])),
        pde.given(x=0, u=0.0),
        pde.given(x=1, residual=spring, weight=weight),
    ]


# %%
checks.string_conditions(string_conditions)

# %% [markdown]
# ## Exercise 3: A reference for it (2 minutes)
#
# Waves between two layers of water steepen and spread as in KdV; with friction $a$ and a wind $r$ that feeds them:
#
# $$u_t + c\,u^2 u_x + b\,u_{xxx} = a\,u_{xx} + r\,u , \qquad u \text{ periodic in } x .$$
#
# **Given** a `domain` of t and a periodic x, `initial`, a NumPy function of an array of $x$, and the numbers
# `a, b, c, r`.
#
# **Asked** for a reference on 64 points of $x$ and 11 times, a `pde.Grid` from `pde.etdrk4`. Which terms are linear?
#
# **Checked** against a Runge-Kutta method of many small steps, written in NumPy, for random coefficients.


# %% tags=["stub"]
def wave_reference(domain, initial, a, b, c, r):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def wave_reference(domain, initial, a, b, c, r):
    return pde.etdrk4(
        domain, initial, lambda d: a * d**2 - b * d**3 + r, lambda u, d: -c * u**2 * d(u), points=64, times=11
    )


# %%
checks.wave_reference(wave_reference)

# %% [markdown]
# ## Exercise 4: An ansatz that stays positive (3 minutes)
#
# A concentration is positive, and starts from `start`. Somebody has built both into an ansatz:
#
# ```python
# def concentration(network, start):
#     def u(point):  # (t, x)
#         there = jnp.array([0.0, point[1]])
#         return start(point) + point[0] * jnp.exp(network(there))
#
#     return u
# ```
#
# `pde.solve` refuses it, for it ignores a coordinate. With that mended it trains, and for most equations it still can't
# solve them.
#
# **Given** a network, `(2,) -> ()`, and `start`, a positive function of the point, of which only $x$ counts.
#
# **Asked** for the ansatz, a function of the point (t, x), with a value that equals `start` at $t = 0$, is positive
# everywhere for any network, and can become any positive number at $t > 0$, smoothly.
#
# **Checked** with networks that are random, constant, and differ in one coordinate alone.


# %% tags=["stub"]
def concentration(network, start):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def concentration(network, start):
    def u(point):
        return start(point) * jnp.exp(point[0] * network(point))

    return u


# %%
checks.concentration(concentration)

# %% [markdown]
# ## Exercise 5: Stiffness and friction from measurements (3 minutes)
#
# A weight on a spring, with friction: $u'' + c\,u' + k\,u = 0$. Somebody has measured $u$ at some times, the first of
# them 0, with noise. Neither $c$ nor $k$ is known, and no condition, only the measurements.
#
# **Given** `times`, sorted, and `values`, NumPy arrays of shape `(n,)`.
#
# **Asked** for the pair `(problem, unknowns)`: a `pde.Problem` on a box whose only axis, t, ends with the last
# measurement, data with a weight of 10 in it, and the dict of first guesses for `pde.solve`, 1 for both.
#
# **Checked** by the residual of random functions, and by what the data leave over. If you want to see the coefficients
# found, make up some measurements and solve it:
# `pde.solve(problem, pde.Mlp(16, 2), jax.random.key(0), steps=150, unknowns=unknowns).unknowns`.


# %% tags=["stub"]
def spring_from_data(times, values):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def spring_from_data(times, values):
    domain = pde.Box(t=(0, times[-1]))

    def residual(u, point, c, k):
        value, u_t, u_tt = domain.derivatives(u, point, "", "t", "tt")
        return u_tt + c * u_t + k * value

    problem = pde.Problem(domain, residual, [pde.data(times[:, None], values, weight=10.0)])
    return problem, {"c": 1.0, "k": 1.0}


# %%
checks.spring_from_data(spring_from_data)

# %% [markdown]
# Back to the [lesson](../21_your_own_equation.ipynb), or on to the [puzzles](puzzles.ipynb) and the next lesson:
# [22 · Functional derivatives](../22_functional_derivatives.ipynb).
# [Solutions](../solutions/21_your_own_equation.ipynb).
