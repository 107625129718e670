# %% [markdown]
# # 22 · Functional derivatives
#
# **What if the variable is a function?** (90 minutes)

# %% [markdown]
# After this lesson you can
#
# - write a functional, a number that depends on a whole function, and differentiate it by that function,
# - hold a constraint, and say what its multiplier means,
# - linearise an operator, find its adjoint, and check both,
# - use a functional as a training loss, in JAX and in PyTorch,
# - say what it would take to make functions a type of JAX's own.
#
# The ideas follow Lin, *Automatic functional differentiation in JAX* (ICLR 2024,
# [arXiv](https://arxiv.org/abs/2311.18727), [code](https://github.com/sail-sg/autofd)); code and examples are ours.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import torch
from scipy.optimize import brentq
from torch import func

from course import functional, plots
from course.failures import fails
from course.functional import Functional, Quadrature, compose, gauss_legendre, integrate, nabla, partial_at, variation

# %%
SEED, HIDDEN, STEPS, RATE = 0, 8, 1000, 1e-2
jax.config.update("jax_enable_x64", True)  # float64 on both sides: closed forms are met to 1e-12 and better
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
plots.use()


# %% [markdown]
# ## 1 · Functions of functions
#
# A function is a vector with a continuous index. The dictionary:
#
# | vector | function |
# |---|---|
# | entry $v_i$ | value $f(x)$ |
# | sum over $i$ | integral over $x$ |
# | matrix, vector to vector | operator, function to function |
# | vector to number | functional $F[f]$, function to number |
# | gradient: $dF = \sum_i g_i\,dv_i$ | functional derivative: $dF = \int G(x)\,df(x)\,dx$ |
#
# You know operators already: `grad` and `vmap` are some. An integral needs points and weights, a
# *quadrature*. Gauss-Legendre with $n$ points is exact for polynomials up to degree $2n - 1$.

# %%
def check(what, ours, theirs, tolerance=1e-12):
    if isinstance(theirs, torch.Tensor):
        theirs = theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    first = [np.round(np.ravel(side)[:2], 6) + 0.0 for side in (ours, theirs)]  # + 0.0: no minus before a zero
    print(f"{what}: {first[0]} and {first[1]}, largest gap below {tolerance:.0e}")


def value(F, *arguments):  # compiled whole: quicker than one small program per operation
    return jax.jit(lambda: F(*arguments))()


def at(points, f):
    return jax.jit(jax.vmap(f))(points)


unit = gauss_legendre(0.0, 1.0, points=24)
nodes, weights = (torch.from_numpy(np.array(part)) for part in unit)
check("integral of exp, the closed form", integrate(jnp.exp, unit), np.e - 1)
check("integral of exp, PyTorch", integrate(jnp.exp, unit), weights @ torch.exp(nodes))


# %% [markdown]
# `nabla(f)` is the derivative function, `compose(f, g, h)` is $x \mapsto f(g(x), h(x))$, and
# `partial_at(f, i, value)` fixes argument $i$. All return functions, so they combine with each other and with
# every transformation. Here $I(k) = \int_0^1 \sin(kx)\,dx$: its values for many $k$, and its slope by $k$.

# %%
def wave(x, k):
    return jnp.sin(k * x)


def mean_of_wave(k):
    return integrate(partial_at(wave, 1, k), unit)


k = np.linspace(1.0, 5.0, 4)
check("vmap of an integral", at(k, mean_of_wave), (1 - np.cos(k)) / k)
slopes = at(k, jax.grad(mean_of_wave))
check("jit of vmap of its gradient", slopes, np.sin(k) / k - (1 - np.cos(k)) / k**2)
slopes_torch = func.vmap(func.grad(lambda k: weights @ torch.sin(k * nodes)))(torch.from_numpy(k))
check("the same in torch.func", slopes, slopes_torch)
check("tan' = 1 / cos^2", nabla(compose(jnp.divide, jnp.sin, jnp.cos))(0.3), 1 / np.cos(0.3) ** 2)

# %% [markdown]
# ## 2 · The derivative by a function
#
# Move $f$ a little in the direction of another function $g$. The functional derivative $\delta F/\delta f$ is the
# function $G$ for which
#
# $$\frac{d}{d\varepsilon} F[f + \varepsilon g]\,\Big|_{\varepsilon = 0} = \int G(x)\, g(x)\, dx .$$
#
# For $F[f] = \int f^2 dx$ the left side is $\int 2 f g\, dx$, so $G = 2f$, at most 2 for $f = \sin 3x$.

# %% alt="A diagram. A function f goes into a functional F, which returns a number. Below it the derivative of F takes the same function f and returns another function, G. Along a direction g the change of the number is the integral of G times g."
diagram = plots.Diagram(height=1.9)
f_box = diagram.array(1.1, 0.95, "f, a function\nof x", side="jax", height=0.55)
F_box = diagram.function(3.3, 1.45, "functional F\nintegral of L(x, f, f')", side="jax", width=1.7, height=0.55)
dF_box = diagram.function(3.3, 0.45, "derivative of F", side="jax", width=1.7)
number_box = diagram.array(5.3, 1.45, "F[f], a number", side="jax", width=1.2)
G_box = diagram.array(5.3, 0.45, "G, a function\nof x", side="jax", height=0.55)
change_box = diagram.array(7.2, 0.95, "change along g:\nintegral of G g", side="jax", width=1.25, height=0.55)
for start, end in ((f_box, F_box), (f_box, dF_box), (F_box, number_box), (dF_box, G_box), (G_box, change_box)):
    diagram.arrow(start, end)
diagram.arrow(number_box, change_box, dashed=True)
plt.show()
square = Functional(lambda x, f, slope: f**2, unit)  # L(x, f, f')
print(f"F[sin 3x] = {value(square, lambda x: jnp.sin(3 * x)):.6f}, by hand {0.5 - np.sin(6.0) / 12:.6f}")


# %% [markdown]
# On a computer $f$ is often a vector of values at nodes, and `grad` by those values is one line. In the package
# `Functional(L, rule)` is $\int L(x, f, f')\,dx$ by that rule, `variation(F, f)(g)` its derivative along $g$,
# `node_gradient` its gradient by node values, and `functional_gradient` (section 3) the function $G$ itself.
#
# **Predict.** With 10, 20 and 40 nodes: does the gradient come out near $2f$, so with a largest entry near 2?

# %%
def u(x):
    return jnp.sin(3 * x)


for points in (10, 20, 40):
    rule = gauss_legendre(0.0, 1.0, points)
    plain = jax.jit(jax.grad(lambda values, rule=rule: rule.weights @ values**2))(u(rule.nodes))
    by_weight = plain / rule.weights
    np.testing.assert_allclose(by_weight, 2 * u(rule.nodes), rtol=0, atol=1e-12)
    print(f"{points} nodes: largest entry {plain.max():.3f}, divided by the weights {by_weight.max():.3f}; "
          f"largest 2f {2 * u(rule.nodes).max():.3f}")  # fmt: skip
leaf = torch.sin(3 * nodes).requires_grad_()
(weights @ leaf**2).backward()
check("leaf.grad / weights, PyTorch", 2 * u(unit.nodes), leaf.grad / weights)
check("node_gradient", value(functional.node_gradient, square, u), leaf.grad / weights)
check("derivative along exp", value(variation(square, u), jnp.exp), weights @ (2 * leaf * torch.exp(nodes)))


# %% [markdown]
# No: this is the classic slip. The plain gradient fades as the grid gets finer. It is a gradient in the space of
# vectors, where a node is worth 1; in the space of functions it is worth its weight. Gradient descent with the plain
# one takes steps that depend on the grid. `node_gradient` divides by the weights. PyTorch is no different:
# `leaf.grad` has to be divided too.
#
# ## 3 · When the slope enters
#
# Most functionals also look at $f'$: $F[f] = \int_a^b L(x, f, f')\,dx$. The derivative along $g$ is
#
# $$\int_a^b L_f\, g + L_{f'}\, g'\,dx = \int_a^b \Big(L_f - \frac{d}{dx} L_{f'}\Big)\, g\,dx
#   + \Big[L_{f'}\, g\Big]_a^b ,$$
#
# by parts. The round bracket under the integral is the functional derivative $G$; the square bracket is the term at
# the ends. Where $G$ is zero, $f$ is stationary as long as its ends are held: that is the Euler-Lagrange equation. A
# Lagrangian that looks at $f''$ too is integrated by parts twice, which adds $+\frac{d^2}{dx^2} L_{f''}$, and so on
# with alternating signs (Gelfand and Fomin, *Calculus of Variations*, 1963, section 11): $G = \sum_k (-1)^k
# \frac{d^k}{dx^k} L_{f^{(k)}}$. As code these are nested derivatives; written with `grad` as an argument it is JAX
# *and* PyTorch. Try it on an elastic beam: its energy is that of bending, half the stiffness times $f''^2$, less the
# work of the load (`bending` below). In the package it is `Functional(L, rule, order=2)` (22b).

# %%
def repeated(f, grad, k):
    for _ in range(k):
        f = grad(f)
    return f


def euler_lagrange(L, grad, order=1):
    def of(f):
        def by_slope(k):  # the derivative of L by f^(k), as a function of x
            return lambda x: grad(L, argnums=1 + k)(x, *(repeated(f, grad, j)(x) for j in range(order + 1)))

        return lambda x: sum((-1) ** k * repeated(by_slope(k), grad, k)(x) for k in range(order + 1))

    return of


def bending(x, f, slope, bend):  # a beam of stiffness 1 + x under a load of 1
    return (1 + x) * bend**2 / 2 - f


grid = np.linspace(0.0, 1.0, 5)
beam = at(grid, euler_lagrange(bending, jax.grad, order=2)(u))  # ((1 + x) f'')'' - 1
in_torch = func.vmap(euler_lagrange(bending, func.grad, order=2)(lambda x: torch.sin(3 * x)))(torch.from_numpy(grid))
check("beam, by hand", beam, 81 * (1 + grid) * np.sin(3 * grid) - 54 * np.cos(3 * grid) - 1)
check("beam, torch.func", beam, in_torch)


# %% [markdown]
# The simplest one is the Dirichlet energy, $\frac12\int f'^2 dx$, with the derivative $-f''$. No quadrature is
# involved: $G$ is a function like $f$, to be called anywhere. Node values see $f'$ through the polynomial that
# passes through them.
#
# **Predict.** The gradient by node values, divided by the weights, against $G = -f''$: do they agree for
# $\cos \pi x$? And for $\sin 3x$?

# %%
def flat_at_the_ends(x):
    return jnp.cos(jnp.pi * x)


energy = Functional(lambda x, f, slope: slope**2 / 2, unit)
check("value for sin 3x", value(energy, u), 9 / 4 * (1 + np.sin(6.0) / 6))
gradient = functional.functional_gradient(energy, u)
check("-u'', by the package", at(grid, gradient), 9 * np.sin(3 * grid))
check("-u'', by the code above", at(grid, euler_lagrange(energy.lagrangian, jax.grad)(u)), 9 * np.sin(3 * grid))
for name, f in {"cos pi x": flat_at_the_ends, "sin 3x": u}.items():
    exact = at(unit.nodes, functional.functional_gradient(energy, f))
    gap = np.abs(value(functional.node_gradient, energy, f) - exact)
    print(f"node values, {name}:", "largest gap below 1e-8" if gap.max() < 1e-8 else f"largest gap {gap.max():.1f}")
print("largest gaps for sin 3x at nodes", *sorted(gap.argsort()[-2:]), "of 0 to", len(gap) - 1)

# %% [markdown]
# Only for the cosine. No bug: the node gradient contains $[L_{f'}\,g]$, and $L_{f'} = f'$ vanishes at both ends only
# for the cosine. The bracket counts only at the ends, so a vector piles it up on the outermost nodes. Put it back,
# and all three agree:

# %%
boundary = nabla(u)(1.0) * jnp.cos(1.0) - nabla(u)(0.0) * jnp.cos(0.0)
inner = value(integrate, compose(jnp.multiply, gradient, jnp.cos), unit)
along = value(variation(energy, u), jnp.cos)  # d/de F[u + e cos]
check("integral of G g, plus the bracket", inner + boundary, along)
by_nodes = value(functional.node_gradient, energy, u)
check("node gradient", unit.weights @ (by_nodes * jnp.cos(unit.nodes)), along)

# %% [markdown]
# Hold the ends of $f$ fixed and only $g$ that vanish there count: then $G$ is all. Leave them free, and a
# minimum also needs $L_{f'} = 0$ there (the *natural* boundary condition). Minimising the functional leads
# there without an extra term in the loss. Section 6 fixes both ends, so there it plays no part.
#
# ## 4 · Famous functionals
#
# **The soap film.** Between two rings it takes the form of least area, $2\pi\int y\sqrt{1 + y'^2}\,dx$: the
# catenary $y = c \cosh(x/c)$, of area $2\pi c\,(b + \frac{c}{2}\sinh\frac{2b}{c})$ on $[-b, b]$. Two values of $c$ meet
# the same rings.

# %%
b = 0.5
area = Functional(lambda x, y, slope: 2 * jnp.pi * y * jnp.sqrt(1 + slope**2), gauss_legendre(-b, b, 60))


def catenary(c):
    return lambda x: c * jnp.cosh(x / c)


radius = float(catenary(1.0)(b))
thin = brentq(lambda c: c * np.cosh(b / c) - radius, 0.1, 0.4)  # a second c that meets the same two rings
for name, c in {"c = 1": 1.0, f"c = {thin:.3f}": thin}.items():
    check(f"{name}, area", value(area, catenary(c)), 2 * np.pi * c * (b + c / 2 * np.sinh(2 * b / c)))
    gradient_of_area = functional.functional_gradient(area, catenary(c))
    check(f"{name}, G = 0", at(np.linspace(-b, b, 7), gradient_of_area), np.zeros(7), 1e-10)
cylinder = value(area, lambda x: radius + 0 * x)
print(f"areas: {value(area, catenary(1.0)):.3f} and {value(area, catenary(thin)):.3f}, of a cylinder {cylinder:.3f}")


# %% [markdown]
# **The fastest slide.** Which track takes a bead from the origin to a lower point in the least time? With $y$
# pointing down and $g = 1$, $T[y] = \int \sqrt{(1 + y'^2) / 2y}\;dx$, and the answer is the cycloid
# $x = \theta - \sin\theta,\ y = 1 - \cos\theta$, with $T = \theta$. As a function of $x$ it starts out like
# $x^{2/3}$: infinitely steep. So we write $x = s^3$; then $y$ is smooth in $s$, and so is the integrand
# $\sqrt{(9 s^4 + y_s^2) / 2y}$. First $\theta$ as a function of $s$, by Newton's method with a derivative of its
# own (09).

# %%
def cube_root_of_x(theta):  # (theta - sin theta)^(1/3) by the series of the sine: no cancellation near 0
    total = 1.0
    for k in range(16, 1, -1):
        total = 1 - theta**2 / (2 * k * (2 * k + 1)) * total
    return theta * (total / 6) ** (1 / 3)


@jax.custom_jvp
def angle(s):
    def newton(_, theta):
        root = cube_root_of_x(theta)
        return theta - (root - s) * 3 * root**2 / (2 * jnp.sin(theta / 2) ** 2)

    return jax.lax.fori_loop(0, 6, newton, s * 6 ** (1 / 3))


@angle.defjvp
def angle_jvp(primals, tangents):
    (s,), (v,) = primals, tangents
    theta = angle(s)
    return theta, 3 * s**2 / (2 * jnp.sin(theta / 2) ** 2) * v


def cycloid(s):
    return 2 * jnp.sin(angle(s) / 2) ** 2


# %%
END = 2.5
WIDTH, DEPTH = END - np.sin(END), 1 - np.cos(END)
S = float(np.cbrt(WIDTH))


def in_x(x, y, slope):
    return jnp.sqrt((1 + slope**2) / (2 * y))


def in_s(s, y, slope):
    return jnp.sqrt((9 * s**4 + slope**2) / (2 * y))


for points in (8, 16, 32):
    naive = value(Functional(in_x, gauss_legendre(0.0, WIDTH, points)), compose(cycloid, jnp.cbrt))
    smooth = value(Functional(in_s, gauss_legendre(0.0, S, points)), cycloid)
    print(f"{points:2} nodes, relative error: in x {abs(naive / END - 1):.3f}, in s below", end=" ")
    print(next(f"{bound:.0e}" for bound in (5e-15, 1e-8, 1) if abs(smooth / END - 1) < bound))
fall = Functional(in_s, gauss_legendre(0.0, S, 32))
check("G = 0", at(np.linspace(0.3, S, 5), functional.functional_gradient(fall, cycloid)), np.zeros(5), 1e-11)
with fails(ValueError):
    fall(lambda s: s - 0.5)  # a track that starts above the origin: y < 0 under the square root

# %% [markdown]
# Doubling the points in $x$ takes off only a third of the error; after the substitution 16 reach machine
# precision. A quadrature is as good as its integrand is smooth. Where the integrand has no value at all, the
# package says how many nodes are hit and where the first one is, so that one can look at $f$ there.
#
# **Electrons.** Density functional theory writes the energy of electrons as a functional of their density $n$ in
# space; its derivatives are the potentials. Three classic terms (atomic units; Parr and Yang, *Density-functional
# theory of atoms and molecules*, 1989): Thomas-Fermi $C_F\int n^{5/3}$, von Weizsäcker $\frac18\int |\nabla n|^2/n$,
# exchange in the local density approximation (LDA) $-C_x\int n^{4/3}$. The density: hydrogen, $n = e^{-2r}/\pi$. In
# space, slopes are gradients and $\frac{d}{dx}$ becomes a divergence. All three are symmetric, so nodes along one ray
# do, with weights $4\pi r^2 dr$.

# %%
FERMI, EXCHANGE = 0.3 * (3 * np.pi**2) ** (2 / 3), 0.75 * (3 / np.pi) ** (1 / 3)
r, dr = gauss_legendre(0.0, 30.0, 60)
ball = Quadrature(r[:, None] * jnp.array([0.6, 0.0, 0.8]), 4 * jnp.pi * r**2 * dr)  # nodes (60, 3)


def hydrogen(x):
    return jnp.exp(-2 * jnp.sqrt(x @ x)) / jnp.pi


terms = {  # Lagrangian, energy, potential as a function of n and r
    "Thomas-Fermi": (
        lambda x, n, slope: FERMI * n ** (5 / 3),
        FERMI * np.pi ** (-2 / 3) * (3 / 5) ** 3, lambda n, r: 5 / 3 * FERMI * n ** (2 / 3)),
    "von Weizsäcker": (
        lambda x, n, slope: slope @ slope / (8 * n),
        0.5, lambda n, r: 1 / r - 0.5),
    "LDA exchange": (
        lambda x, n, slope: -EXCHANGE * n ** (4 / 3),
        -EXCHANGE * np.pi ** (-1 / 3) * (3 / 4) ** 3, lambda n, r: -((3 * n / np.pi) ** (1 / 3))),
}  # fmt: skip

# %%
somewhere = np.random.default_rng(SEED).normal(size=(6, 3))
radii = np.linalg.norm(somewhere, axis=1)
for name, (lagrangian, expected, potential) in terms.items():
    term = Functional(lagrangian, ball)
    check(f"{name}, energy", value(term, hydrogen), expected)
    found = at(somewhere, functional.functional_gradient(term, hydrogen))
    check(f"{name}, potential", found, potential(np.exp(-2 * radii) / np.pi, radii))

density = torch.from_numpy(np.array(jax.vmap(hydrogen)(ball.nodes))).requires_grad_()
shells = torch.from_numpy(np.array(ball.weights))
(shells @ (-EXCHANGE * density ** (4 / 3))).backward()
closed_form = -((3 * density / np.pi) ** (1 / 3))
check("LDA potential in PyTorch, grad / weights", density.grad / shells, closed_form)

# %% [markdown]
# **A constraint and its multiplier.** Add the pull of the nucleus, $-\int n/r$, to the von Weizsäcker term and the
# energy $E[n]$ of the hydrogen atom is complete. But nothing says that there is one electron, and with more of them
# $E$ falls without end. Under the constraint $\int n = 1$ only changes $g$ with $\int g = 0$ are allowed, and $\int G
# g = 0$ for all of *these* only if $G$ is the same number everywhere: $G = \mu$. So one looks for a stationary point of
# $E[n] - \mu\,(\int n - 1)$; $\mu$ is the *multiplier*. It says what the constraint is worth, $\mu = dE/dN$ for $N$
# electrons (chemists call it the chemical potential; Gelfand and Fomin, section 12).
#
# In training nobody needs $\mu$: divide by the integral and the constraint is built in. The derivative of
# $E[n/\!\int\! n]$ is $G - \mu$ by itself, with $\mu = \int G n$ at any normalised $n$. Both, by number:

# %%
hydrogen_energy = Functional(lambda x, n, slope: slope @ slope / (8 * n) - n / jnp.sqrt(x @ x), ball)
potential = functional.functional_gradient(hydrogen_energy, hydrogen)
check("G is -1/2 everywhere", at(somewhere, potential), np.full(6, -0.5))
by_electrons = jax.grad(lambda N: hydrogen_energy(lambda x: N * hydrogen(x)))
check("dE/dN", value(by_electrons, 1.0), -0.5)


def normalised(n):
    total = integrate(n, ball)
    return lambda x: n(x) / total


def energy_of_normalised(n):
    return hydrogen_energy(normalised(n))


wrong = normalised(lambda x: hydrogen(1.3 * x))  # one electron, but too close to the nucleus
G = functional.functional_gradient(hydrogen_energy, wrong)
mu = value(integrate, compose(jnp.multiply, G, wrong), ball)
expected = value(integrate, lambda x: (G(x) - mu) * hydrogen(x), ball)  # moved in the direction of the right density
check("constraint built in: G - mu", value(variation(energy_of_normalised, wrong), hydrogen), expected)


# %% [markdown]
# At the minimum $\mu$ is $-1/2$ and so is the energy: $E$ is proportional to $N$ here, electrons do not repel each
# other in it. $-1/2$ is the ground state energy of hydrogen.
#
# ## 5 · Derivatives of an operator
#
# An operator takes $u$ to a function: here $N[u] = u\,u' + u^3$. Its derivative at $u$ is a *linear* operator,
# $N'[u]\,g = u\,g' + u'g + 3u^2 g$ by hand, $\frac{d}{d\varepsilon} N[u + \varepsilon g]$ by `jvp`: that is what
# `variation` does.

# %%
def transport(u):
    return lambda x: u(x) * nabla(u)(x) + u(x) ** 3


linearised = variation(transport, u)
u_, du_ = np.sin(3 * grid), 3 * np.cos(3 * grid)
check("N'[u] exp, by hand", at(grid, linearised(jnp.exp)), (u_ + du_ + 3 * u_**2) * np.exp(grid))


def transport_torch(e):
    def moved(x):
        return torch.sin(3 * x) + e * torch.exp(x)

    return moved(x) * func.grad(moved)(x) + moved(x) ** 3


x, zero, one = map(torch.tensor, (0.4, 0.0, 1.0))
check("the same by torch.func.jvp", value(linearised(jnp.exp), 0.4), func.jvp(transport_torch, (zero,), (one,))[1])


# %% [markdown]
# A network is a function with parameters. Moving a parameter moves the function in the direction
# $\partial f/\partial\theta$, so the derivative by the parameter is $N'[f]$ along it: the chain rule through a
# function space.
#
# The *adjoint* of $N'[u]$ moves it to the other side: $\langle h, N'[u]\,g\rangle = \langle N'[u]^* h, g\rangle$,
# with $\langle a, b\rangle = \int a b\,dx$. It is what `vjp` is for vectors, and it is a functional derivative:
# that of $u \mapsto \langle h, N[u]\rangle$. By hand, $N'[u]^* h = -u\,h' + 3u^2 h$. We test with a $g$ that vanishes
# at the ends.

# %%
def ramp(w):
    return lambda x: jnp.tanh(w * x)


by_parameter = jax.jvp(lambda w: transport(ramp(w))(0.4), (1.3,), (1.0,))[1]
through_function_space = variation(transport, ramp(1.3))(lambda x: jax.grad(lambda w: ramp(w)(x))(1.3))
check("one number, two ways", by_parameter, value(through_function_space, 0.4))


def bump(x):
    return jnp.sin(jnp.pi * x)


paired = Functional(lambda x, u, slope: jnp.cos(2 * x) * (u * slope + u**3), unit)  # <h, N[u]> with h = cos 2x
adjoint = functional.functional_gradient(paired, u)
check("N'[u]* h", at(grid, adjoint), 2 * u_ * np.sin(2 * grid) + 3 * u_**2 * np.cos(2 * grid))
left = value(integrate, compose(jnp.multiply, lambda x: jnp.cos(2 * x), linearised(bump)), unit)
right = value(integrate, compose(jnp.multiply, adjoint, bump), unit)
check("<h, N'[u] g> = <N'[u]* h, g>", left, right)

# %% [markdown]
# ## 6 · Solve one by training
#
# Suppose nobody had told us about the cycloid. Take a small network, build the ends into it,
# $y = y_1 t^2\,(1 + (1 - t)\,\mathrm{net}(t))$ with $t = s/s_1$, and minimise the time. The functional is the loss.

# %%
rng = np.random.default_rng(SEED)
init = {"w": rng.normal(size=HIDDEN), "b": rng.normal(size=HIDDEN), "v": 0.1 * rng.normal(size=HIDDEN)}


def track(params):
    def y(s):
        t = s / S
        net = jnp.tanh(t * params["w"] + params["b"]) @ params["v"]
        return DEPTH * t**2 * (1 + (1 - t) * net)

    return y


def loss_fn(params):
    return fall(track(params))


loss, grads = jax.jit(jax.value_and_grad(loss_fn))(init)
print(f"time before training {loss:.4f}, shortest possible {END}")

# %%
s_nodes, s_weights = (torch.from_numpy(np.array(part)) for part in fall.quadrature)


def loss_torch(params):
    s = s_nodes.clone().requires_grad_()
    t = s / S
    net = torch.tanh(t[:, None] * params["w"] + params["b"]) @ params["v"]
    y = DEPTH * t**2 * (1 + (1 - t) * net)
    slope = torch.autograd.grad(y.sum(), s, create_graph=True)[0]  # at all nodes at once
    return s_weights @ torch.sqrt((9 * s**4 + slope**2) / (2 * y))


params_torch = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in init.items()}
loss_torch(params_torch).backward()
check("loss", loss, loss_torch(params_torch))
for name, leaf in params_torch.items():
    check(f"gradient by {name}", grads[name], leaf.grad)

# %%
tx = optax.adam(RATE)


def train_step(state, _):
    params, opt_state = state
    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), loss


start = jax.tree.map(jnp.asarray, init)
(params, _), losses = jax.jit(lambda p: jax.lax.scan(train_step, (p, tx.init(p)), None, length=STEPS))(start)

optimizer = torch.optim.Adam(params_torch.values(), lr=RATE)
losses_torch = []
for _ in range(STEPS):
    optimizer.zero_grad()
    loss = loss_torch(params_torch)
    loss.backward()
    optimizer.step()
    losses_torch.append(loss.item())
check(f"all {STEPS} losses", losses, np.array(losses_torch), 1e-10)

# %% alt="Left, four tracks from the origin down to the right: a straight line, the untrained curve below it, and the trained curve, which lies on the cycloid. Right, time lost to the cycloid against the step, on a logarithmic scale: the curves of JAX and PyTorch lie on each other and fall from six thousandths to below a millionth."
s = np.linspace(1e-3, S, 200)
figure, (left, right) = plots.panels(2)
straight = f"straight line, T = {np.sqrt(2 * (WIDTH**2 + DEPTH**2) / DEPTH):.3f}"
left.plot([0, WIDTH], [0, DEPTH], ":", marker="", color="black", label=straight)
left.plot(s**3, at(s, track(init)), "--", marker="", label=f"untrained, T = {losses[0]:.3f}")
left.plot(s**3, at(s, track(params)), marker="", linewidth=5, alpha=0.4, label=f"trained, T = {losses[-1]:.3f}")
left.plot(s**3, at(s, cycloid), "k", marker="", linewidth=1, label=f"cycloid, T = {END:.3f}")
left.invert_yaxis()
left.set(xlabel="x", ylabel="y, downwards", title="Four tracks")
left.legend()
lost = {"PyTorch": np.array(losses_torch) / END - 1, "JAX": losses / END - 1}
for (name, each), width in zip(lost.items(), (5, 1.5), strict=True):
    right.semilogy(each, **plots.style(name) | {"marker": "", "linestyle": "-"}, linewidth=width, label=name)
right.set(xlabel="step of Adam", ylabel="T / T(cycloid) - 1", title="Time lost to the cycloid")
right.legend()
plt.show()
curve_gap, time_gap = np.abs(at(s, track(params)) - at(s, cycloid)).max(), losses[-1] / END - 1
assert 0 < time_gap < 1e-5 < curve_gap < 1e-2
print(f"time {losses[-1]:.5f}, the cycloid's {END:.5f}; gap below 1e-5, and the curve off by {curve_gap:.0e}")

# %% [markdown]
# The time is far closer than the curve: at a minimum, an error of size $\varepsilon$ in the function costs only
# $\varepsilon^2$ in the functional. Good for a time or an energy, bad news if you wanted the function.
#
# ## 7 · Functions as a type of JAX
#
# Throughout, the functions were Python's, and the derivatives were taken by *numbers*: $\varepsilon$, node values,
# parameters. Could `jax.grad` take the function itself?

# %%
with fails(TypeError):
    jax.grad(lambda f: integrate(f, unit))(jnp.exp)


# %% [markdown]
# Read the last words: a function is "not a valid JAX type". JAX differentiates what it has an *abstract value* for:
# for arrays that is shape and dtype, what a tracer carries (08). Lin's paper and its package, autofd, add another
# kind, for functions: the shapes and dtypes of arguments and result. A tracer then may stand for a function. Then it
# adds *primitives* that take functions: compose, nabla, linearise, transpose, integrate. `tanh` is a primitive for
# arrays, and JAX knows what to do with it because of its rules (09): one for `jvp`, and, for linear ones, one for
# transposition. So each new primitive gets the same rules, with functions in the places of vectors:
#
# | primitive | along $g$ | transposed |
# |---|---|---|
# | integrate: $f \mapsto \int f$ | $\int g$ | number $c \mapsto$ the constant function $c$ |
# | nabla: $f \mapsto f'$ | $g'$ | $h \mapsto -h'$, by parts |
# | compose: $f \mapsto \varphi \circ f$ | $\varphi'(f)\,g$ | $h \mapsto \varphi'(f)\,h$ |
#
# With these, `jax.grad(F)(f)` returns a function, and the machinery of `grad`, which runs forward, linearises and
# transposes, stays as it is. A tape of our own shows it in small. A rule returns its value and its
# *pullback*, the function that takes a derivative by the value back to one by the argument, as `jax.vjp` returns it:

# %%
def integrate_rule(f):
    return integrate(f, unit), lambda number: lambda x: number


def nabla_rule(f):
    return nabla(f), lambda h: lambda x: -nabla(h)(x)


def compose_rule(phi):
    return lambda f: (compose(phi, f), lambda h: lambda x: nabla(phi)(f(x)) * h(x))


def functional_grad(*rules):
    def gradient(f):
        pullbacks = []
        for rule in rules:  # forward, a function from each to the next, and a number from the last
            f, pullback = rule(f)
            pullbacks.append(pullback)
        cotangent = 1.0
        for pullback in reversed(pullbacks):
            cotangent = pullback(cotangent)
        return cotangent

    return gradient


# %%
of_exp = functional_grad(compose_rule(jnp.exp), integrate_rule)(u)
check("integral of exp(f): G = exp(f)", at(grid, of_exp), np.exp(np.sin(3 * grid)))
length = functional_grad(nabla_rule, compose_rule(lambda slope: jnp.sqrt(1 + slope**2)), integrate_rule)(u)
by_hand = 9 * np.sin(3 * grid) / (1 + 9 * np.cos(3 * grid) ** 2) ** 1.5  # minus the curvature
check("length of the curve", at(grid, length), by_hand)
by_lagrangian = functional.euler_lagrange(lambda x, f, slope: jnp.sqrt(1 + slope**2))(u)
check("the same by Euler-Lagrange", at(grid, by_lagrangian), by_hand)
print("jax.core still has raise_to_shaped_mappings:", hasattr(jax.core, "raise_to_shaped_mappings"))

# %% [markdown]
# The tape needs no Lagrangian: chain what has a rule. It also shows where such a system ends.
# The rule of `nabla` drops the term at the ends. Transposing `compose` by its *outer* function would need the
# inverse of the inner one; autofd raises an error there. And each `nabla` in a chain is a derivative inside the
# derivatives around it: what pulls back through many of them is a large program (16).
#
# autofd writes its rules and types into internal tables of the JAX of its time. On jax 0.10 it fails to import:
# `raise_to_shaped_mappings`, the last line above, is one that is gone. Newer versions carry an experiment with
# types of one's own, `jax.experimental.hijax`; it is in motion and missing in the oldest version that this course
# supports. So here functions stay in Python and numbers in JAX. That runs on every version, and loses less than it
# seems: a function that a computer works with has finitely many numbers in it somewhere.
#
# ## 8 · What can go wrong
#
# A functional by quadrature sees $f$ at the nodes and nowhere else. A function that vanishes at all of them
# is invisible, however large it is in between; for a rule with $n$ nodes, the Legendre polynomial of degree
# $n$ is one: the nodes are its zeros. A flexible network can find such loopholes, so train on other nodes
# from time to time, or test on more.

# %%
hidden = np.polynomial.legendre.leg2poly([0] * 8 + [1])[::-1].copy()
squared_norm = [
    integrate(lambda x: jnp.polyval(hidden, x) ** 2, gauss_legendre(-1.0, 1.0, points)) for points in (9, 8)
]
check("integral of its square, 9 nodes", squared_norm[0], 2 / 17)
check("with 8 nodes", squared_norm[1], 0.0)

# %% [markdown]
# Also: stationary is not yet minimal, as the thin catenary of section 4 shows, larger than a cylinder. Corners and
# singularities need a substitution or a split interval. On a grid in space, nodes multiply with the dimension;
# beyond three or four, integrals are sampled, and derivatives need the tricks of lessons 16 and after.
#
# ## Summary
#
# - A functional is an integral of $L(x, f, f')$, here by quadrature. Its derivative by $f$ is $L_f -
#   \frac{d}{dx}L_{f'}$, three nested derivatives; by node values it is the gradient *divided by the weights*, terms
#   at the ends included. Under a constraint it need not vanish, only be constant: the multiplier.
# - Operators have derivatives too: `jvp` along a function. The adjoint is the functional derivative of a pairing.
# - As a loss, a functional trains a network in JAX and PyTorch alike. The value converges much faster than the
#   function.
# - JAX could know functions as a type, with rules for a handful of primitives; from outside that is hard to add.
#
# ## Further reading
#
# - [Automatic functional differentiation in JAX](https://arxiv.org/abs/2311.18727): Lin (ICLR 2024), functions as
#   a type.
# - [sail-sg/autofd](https://github.com/sail-sg/autofd): its package, with the rules as code.
# - [Custom rules](https://docs.jax.dev/en/latest/notebooks/Custom_derivative_rules_for_Python_code.html): JAX's page on
#   `jax.custom_jvp`, with which `angle` got its derivative.
#
# Exercises: [your turn](exercises/22_functional_derivatives.ipynb).
#
# Next: [22b · More functionals](22b_more_functionals.ipynb).
