# %% [markdown]
# # 20b · Exercises: All equations of the papers
#
# **Can you write an equation, what is known of it, and the value that it has at a point?** (5 minutes)

# %% [markdown]
# Three exercises to the [lesson](../20b_all_equations.ipynb). Fill in the cells that say `your turn` and run the
# check below each. `checks.NAME.hint()` prints one hint at a time, `checks.NAME.solution()` the solution, and
# `checks.progress()` what is done. The minutes count reading and typing; thinking comes on top.

# %%
import jax
import jax.numpy as jnp

from course import checks, pde

# %% [markdown]
# ## Exercise 1: The breaking soliton (2 minutes)
#
# $u_{tx} - 4\,u_x u_{xy} - 2\,u_y u_{xx} + u_{xxxy} = 0$ describes waves along $x$ that a long wave along $y$ modulates
# (Bogoyavlenskii, 1990).
#
# **Given** a `domain` with the axes $t$, $x$ and $y$, in whatever order, a function `u` of a point, and a `point` of
# shape `(3,)`.
#
# **Asked** for the residual there, a number.
#
# **Checked** in float64 with random sums of sines over two domains, against derivatives by hand.


# %% tags=["stub"]
def breaking_residual(domain, u, point):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def breaking_residual(domain, u, point):
    u_tx, u_x, u_y, u_xx, u_xy, u_xxxy = domain.derivatives(u, point, "tx", "x", "y", "xx", "xy", "xxxy")
    return u_tx - 4 * u_x * u_xy - 2 * u_y * u_xx + u_xxxy


# %%
checks.breaking_residual(breaking_residual)

# %% [markdown]
# ## Exercise 2: A beam between a wall and a hand (3 minutes)
#
# A beam vibrates by $u_{tt} + u_{xxxx} = 0$ over $t$ from 0 to 1 and $x$ from 0 to 1. At $x = 0$ it is clamped in a
# wall: no deflection, no slope. At $x = 1$ a hand holds it level and moves it up and down.
#
# **Given** three functions of a number: `shape(x)`, the deflection at $t = 0$, `speed(x)`, its $u_t$ there, and
# `hand(t)`, the deflection at $x = 1$.
#
# **Asked** for the list of conditions from `pde.given` that the equation wants, all built in.
#
# **Checked** by making a `pde.Problem` of them, with random functions: any network meets each condition on its face.


# %% tags=["stub"]
def beam_conditions(shape, speed, hand):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def beam_conditions(shape, speed, hand):
    return [
        pde.given(t=0, u=lambda p: shape(p[1])),
        pde.given(t=0, u_t=lambda p: speed(p[1])),
        pde.given(x=0, u=0.0),
        pde.given(x=0, u_x=0.0),
        pde.given(x=1, u=lambda p: hand(p[0])),
        pde.given(x=1, u_x=0.0),
    ]


# %%
checks.beam_conditions(beam_conditions)

# %% [markdown]
# ## Exercise 3: What steering costs (2 minutes)
#
# The Hamilton-Jacobi-Bellman equation $u_t + \Delta u - \lambda |\nabla u|^2 = 0$ with $u = g$ at $t = T$ gives the
# least expected cost $u$ of steering a Brownian motion; $\lambda$ is how little steering costs. Cole and Hopf found a
# function of $u$ that solves an equation without the square, $v_t + \Delta v = 0$, and a $v$ like that is a mean:
# $v(0, x) = E\,v(T, x + \sqrt{2T} Z)$ with a standard normal $Z$.
#
# **Given** `g`, a function of a point `x` of shape `(d,)`, the numbers `control` ($\lambda$) and `horizon` ($T$), a
# `key`, and how many `samples` to draw.
#
# **Asked** for $u(0, x)$, a number, from the mean over the samples; in float32 also where $g$ is large. (With
# `pde.hjb_equation(20)` you can compare: its `final` is $g$, its `solution` at its `asked` point the value.)
#
# **Checked** with a linear $g$, where a closed form is known, also 200 higher; with another $g$ by quadrature; and with
# two keys.


# %% tags=["stub"]
def steered_value(g, x, control, horizon, key, samples):
    raise NotImplementedError("your turn")


# %% tags=["solution"]
def steered_value(g, x, control, horizon, key, samples):
    ends = x + jnp.sqrt(2 * horizon) * jax.random.normal(key, (samples, len(x)))
    exponents = -control * jax.vmap(g)(ends)
    return -(jax.scipy.special.logsumexp(exponents) - jnp.log(samples)) / control


# %%
checks.steered_value(steered_value)

# %% [markdown]
# Back to the [lesson](../20b_all_equations.ipynb), or on to the next one:
# [21 · An equation of your own](../21_your_own_equation.ipynb). [Solutions](../solutions/20b_all_equations.ipynb).
