"""Arithmetic and comparisons

Operators and functions mostly have the same names and the same rules, NumPy's: `//` and `%` of negative numbers,
`round` to the even neighbour, NaN in comparisons. What differs are masks, casts of numbers that do not fit, and scalars
that carry a dtype.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from rosetta.kinds import Pair, booleans, integers, normal, positive, raises


def signed(*shape):
    """Nonzero integers between -9 and 9."""
    return lambda rng: rng.integers(1, 10, size=shape) * rng.choice([-1, 1], size=shape)


def quiet(function):
    """The function without its warnings."""

    @functools.wraps(function)
    def call(*arguments, **named):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments, **named)

    return call


class Operators(Pair):
    """Add, subtract, multiply, divide"""

    inputs = {"x": normal(3), "y": positive(3)}
    also = ("torch.subtract", "torch.multiply", "torch.divide", "torch.true_divide", "torch.negative")

    def torch(x, y):
        return torch.add(x, y, alpha=2), torch.sub(x, y), torch.mul(x, y), torch.div(x, y), torch.neg(x)

    def jax(x, y):
        return x + 2 * y, x - y, x * y, x / y, -x


class InPlaceArithmetic(Pair):
    """Arithmetic in place: `+=`, `add_`, `mul_`"""

    inputs = {"x": normal(3)}
    trap = "`+=` changes the tensor, under every name that it has. In JAX it makes a new array, for one name only."
    also = ("Tensor.sub_", "Tensor.div_", "Tensor.neg_", "Tensor.pow_", "Tensor.sqrt_", "Tensor.exp_")

    def torch(x):
        alias = x
        x += 1
        return alias.mul_(2).add_(1)

    def jax(x):
        alias = x
        x += 1
        return alias * 2 + 1

    def fix(x):
        x += 1
        return x * 2 + 1

    def differ(theirs, ours):
        return np.allclose(theirs.numpy() - np.asarray(ours), 2, atol=1e-5)


class FloorDivision(Pair):
    """Floor division and remainder of negative numbers"""

    inputs = {"x": integers(-9, 10, 8), "y": signed(8), "z": normal(8)}
    no_gradient = "PyTorch has none of a floor division"
    note = "Both round down, and `%` has the sign of the divisor, for integers and floats."
    also = ("Tensor.floor_divide", "Tensor.remainder")

    def torch(x, y, z):
        return x // y, torch.floor_divide(x, y), torch.remainder(x, y), x % y, z // 0.3, z % -0.3

    def jax(x, y, z):
        return x // y, jnp.floor_divide(x, y), jnp.remainder(x, y), x % y, z // 0.3, z % -0.3


class TruncatedDivision(Pair):
    """Division that rounds towards zero"""

    inputs = {"x": integers(-9, 10, 8), "y": signed(8), "z": normal(8)}
    note = (
        "`fmod`, and `lax.rem` as well, has the sign of the dividend. `lax.div` rounds integers alone: of floats it is "
        "`/`."
    )

    def torch(x, y, z):
        return torch.div(x, y, rounding_mode="trunc"), torch.fmod(x, y), torch.div(z, 0.3, rounding_mode="trunc")

    def jax(x, y, z):
        return lax.div(x, y), jnp.fmod(x, y), jnp.trunc(z / 0.3)

    def claims():
        x = np.array([-7, 7])
        assert torch.fmod(torch.tensor(x), 3).tolist() == jnp.fmod(x, 3).tolist() == lax.rem(x, 3).tolist() == [-1, 1]
        assert lax.div(-7, 2) == -3 and lax.div(-7.0, 2.0) == -3.5


class FloorDivisionGradient(Pair):
    """Gradient of a floor division"""

    inputs = {"x": np.array([1.0, 3.5], np.float32)}
    no_gradient = "its result is a gradient"
    trap = "PyTorch raises: it has no derivative. In JAX the gradient is zero, as that of `floor` is in both."

    def torch(x):
        return torch.func.grad(lambda x: (x // 2).sum())(x)

    def jax(x):
        return jax.grad(lambda x: (x // 2).sum())(x)

    def differ(theirs, ours):
        floors = torch.func.grad(torch.floor)(torch.ones(())), jax.grad(jnp.floor)(1.0)
        return isinstance(theirs, RuntimeError) and ours.tolist() == [0, 0] and [*map(float, floors)] == [0, 0]


class RoundHalf(Pair):
    """Round, floor, ceil, trunc"""

    inputs = {"x": np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 2.7], np.float32)}
    note = "A half goes to the even neighbour on both sides. `.astype(jnp.int32)` cuts, as `.int()` does."
    also = ("Tensor.round_", "Tensor.floor_", "Tensor.ceil_", "Tensor.trunc_", "torch.fix")

    def torch(x):
        return torch.round(x), torch.floor(x), torch.ceil(x), torch.trunc(x), torch.round(x / 7, decimals=1)

    def jax(x):
        return jnp.round(x), jnp.floor(x), jnp.ceil(x), jnp.trunc(x), jnp.round(x / 7, 1)

    def claims():
        assert torch.round(torch.tensor([0.5, 1.5, 2.5])).tolist() == [0, 2, 2]
        assert jnp.array([-1.7, 1.7]).astype(jnp.int32).tolist() == torch.tensor([-1.7, 1.7]).int().tolist() == [-1, 1]


class Fraction(Pair):
    """Whole and fractional part"""

    inputs = {"x": normal(6)}
    note = "The fraction has the sign of the number; `x % 1` lies between 0 and 1."

    def torch(x):
        return torch.frac(x), torch.trunc(x)

    def jax(x):
        return jnp.modf(x)

    def claims():
        assert float(jnp.modf(jnp.float32(-1.5))[0]) == torch.frac(torch.tensor(-1.5)).item() == -0.5
        assert jnp.float32(-1.25) % 1 == 0.75


class Powers(Pair):
    """Powers and roots"""

    inputs = {"x": positive(4)}
    also = ("Tensor.square_", "Tensor.rsqrt_", "Tensor.reciprocal_")

    def torch(x):
        return torch.pow(x, 3), x**0.5, torch.sqrt(x), torch.rsqrt(x), torch.square(x), torch.reciprocal(x)

    def jax(x):
        return jnp.power(x, 3), x**0.5, jnp.sqrt(x), lax.rsqrt(x), jnp.square(x), jnp.reciprocal(x)


class ExpLog(Pair):
    """Exponentials and logarithms"""

    inputs = {"x": positive(4)}
    also = ("Tensor.log_", "Tensor.log1p_", "special.exp2", "special.expm1", "special.log1p")

    def torch(x):
        return torch.exp(x), x.exp2(), torch.expm1(x), torch.log(x), torch.log1p(x), x.log2(), x.log10()

    def jax(x):
        return jnp.exp(x), jnp.exp2(x), jnp.expm1(x), jnp.log(x), jnp.log1p(x), jnp.log2(x), jnp.log10(x)


class Trigonometry(Pair):
    """Trigonometric and hyperbolic functions"""

    inputs = {"x": positive(4)}
    note = "The others have the same names, short and long (`asin`, `arcsin`)."
    also = (
        "torch.tan", "torch.asin", "torch.acos", "torch.sinh", "torch.cosh", "torch.asinh", "torch.acosh",
        "torch.atanh", "torch.arcsin", "torch.arccos", "torch.arctan", "torch.arcsinh", "torch.arccosh",
        "torch.arctanh", "torch.arctan2", "torch.rad2deg", "torch.deg2rad", "special.sinc",
    )  # fmt: skip

    def torch(x):
        return torch.sin(x), torch.cos(x), torch.tanh(x), torch.atan(x), torch.atan2(x, 1 - x), torch.sinc(x)

    def jax(x):
        return jnp.sin(x), jnp.cos(x), jnp.tanh(x), jnp.atan(x), jnp.atan2(x, 1 - x), jnp.sinc(x)

    def claims():
        x = np.array([0.2, 0.7], np.float32)
        same = "tan asin acos sinh cosh asinh atanh arcsin arccos arctan arcsinh arctanh rad2deg deg2rad"
        for name in same.split():
            assert np.allclose(getattr(torch, name)(torch.tensor(x)), getattr(jnp, name)(x), atol=1e-6), name
        assert np.allclose(torch.arccosh(torch.tensor(x + 1)), jnp.arccosh(x + 1), atol=1e-6)
        assert jnp.acosh(2.0) == jnp.arccosh(2.0) and np.allclose(jnp.arctan2(x, 1 - x), jnp.atan2(x, 1 - x))


class Logit(Pair):
    """Logit, with and without bounds"""

    inputs = {"p": np.array([0.0, 0.2, 0.7, 1.0], np.float32)}
    note = "JAX's `logit` has no `eps`, so clip first."
    also = ("special.logit", "Tensor.logit_")

    def torch(p):
        return torch.logit(p[1:3]), torch.logit(p, eps=1e-3)

    def jax(p):
        logit = jax.scipy.special.logit
        return logit(p[1:3]), logit(jnp.clip(p, 1e-3, 1 - 1e-3))

    def claims():
        assert raises(TypeError, lambda: jax.scipy.special.logit(0.5, eps=1e-3))


class SpecialFunctions(Pair):
    """Special functions: erf, lgamma, digamma, Bessel"""

    inputs = {"x": positive(5)}
    tolerance = 2e-5
    note = (
        "Most of these have the same name in `torch.special` and `jax.scipy.special`: `erfc`, `i0e`, `i1`, `i1e`, "
        "`ndtr`, `ndtri`, `log_ndtr`, `entr`, `polygamma`, `gammainc`, `gammaincc`, `xlog1py`, `zeta`. "
        "`torch.mvlgamma` is `multigammaln`."
    )
    also = (
        "special.erf", "special.erfc", "special.erfinv", "special.gammaln", "special.digamma", "special.psi",
        "special.i0", "special.i0e", "special.i1", "special.i1e", "special.ndtr", "special.ndtri", "special.xlogy",
        "special.entr", "special.gammainc", "special.gammaincc", "special.multigammaln", "special.polygamma",
        "torch.erfc", "torch.mvlgamma", "torch.igamma", "torch.igammac", "torch.polygamma", "special.log_ndtr",
        "special.zeta", "special.xlog1py",
    )  # fmt: skip

    def torch(x):
        return torch.erf(x), torch.erfinv(x / 2), torch.lgamma(x), torch.digamma(x), torch.i0(x), torch.xlogy(x, x)

    def jax(x):
        from jax.scipy.special import digamma, erf, erfinv, gammaln, i0, xlogy

        return erf(x), erfinv(x / 2), gammaln(x), digamma(x), i0(x), xlogy(x, x)

    def claims():
        x, special = np.array([0.2, 0.7], np.float32), jax.scipy.special
        arguments = {name: [x] for name in ("erfc", "i0e", "i1", "i1e", "ndtr", "ndtri", "log_ndtr", "entr")}
        arguments |= {name: [x + 2, x] for name in ("gammainc", "gammaincc", "xlog1py", "zeta")}
        arguments |= {"polygamma": [1, x], "multigammaln": [x + 2, 2]}
        for name, given in arguments.items():
            theirs = getattr(torch.special, name)(*[torch.tensor(a) if isinstance(a, np.ndarray) else a for a in given])
            assert np.allclose(theirs, getattr(special, name)(*given), atol=1e-5), name


class FusedArithmetic(Pair):
    """lerp, addcmul, addcdiv"""

    inputs = {"x": normal(4), "y": normal(4), "z": positive(4)}
    note = "There are no such functions in JAX; the compiler fuses the plain formula."
    also = ("Tensor.lerp_", "Tensor.addcmul_", "Tensor.addcdiv_")

    def torch(x, y, z):
        return torch.lerp(x, y, 0.1), torch.addcmul(x, y, z, value=0.5), torch.addcdiv(x, y, z, value=0.5)

    def jax(x, y, z):
        return x + 0.1 * (y - x), x + 0.5 * y * z, x + 0.5 * y / z

    def claims():
        assert not any(hasattr(jnp, name) for name in ("lerp", "addcmul", "addcdiv"))
        text = jax.jit(lambda x, y, z: x + 0.5 * y * z).lower(*[jnp.ones(4)] * 3).compile().as_text()
        assert "fusion" in text


class LengthOfTwo(Pair):
    """hypot, copysign, logaddexp"""

    inputs = {"x": normal(4), "y": normal(4)}
    note = "`logaddexp2`, `ldexp`, `nextafter` and `heaviside` have the same names, too."
    also = ("torch.logaddexp2", "torch.ldexp", "torch.nextafter", "torch.heaviside")

    def torch(x, y):
        return torch.hypot(x, y), torch.copysign(x, y), torch.logaddexp(x, y)

    def jax(x, y):
        return jnp.hypot(x, y), jnp.copysign(x, y), jnp.logaddexp(x, y)

    def claims():
        x, y = np.array([-0.5, 0, 2], np.float32), np.array([0.5, 1, -2], np.float32)
        for name in ("logaddexp2", "nextafter", "heaviside"):
            theirs = getattr(torch, name)(torch.tensor(x), torch.tensor(y))
            assert np.allclose(theirs, getattr(jnp, name)(x, y), atol=1e-6), name
        assert (
            torch.ldexp(torch.tensor(x), torch.tensor([1, 2, 3])).tolist() == jnp.ldexp(x, np.array([1, 2, 3])).tolist()
        )


class AbsoluteAndSign(Pair):
    """Absolute value and sign"""

    inputs = {"x": normal(4), "n": integers(-3, 4, 4)}
    note = (
        "`signbit` has the same name, and `torch.sgn` of complex numbers is `jnp.sign`. The sign of NaN is 0 in "
        "PyTorch and NaN in JAX."
    )
    also = ("torch.absolute", "Tensor.abs_", "Tensor.sign_", "torch.signbit", "torch.sgn")

    def torch(x, n):
        return torch.abs(x), torch.sign(x), n.abs(), torch.sign(n)

    def jax(x, n):
        return jnp.abs(x), jnp.sign(x), abs(n), jnp.sign(n)

    def claims():
        x = np.array([-1.0, -0.0, 2], np.float32)
        assert torch.signbit(torch.tensor(x)).tolist() == jnp.signbit(x).tolist()
        assert torch.sign(torch.tensor(np.nan)) == 0 and jnp.isnan(jnp.sign(jnp.nan))
        assert np.allclose(torch.sgn(torch.tensor(3 + 4j)).item(), jnp.sign(jnp.complex64(3 + 4j)))


class Extremes(Pair):
    """Element-wise maximum and minimum, and NaN"""

    inputs = {"x": np.array([np.nan, -2.0, 0.5], np.float32), "y": normal(3)}
    no_gradient = "NaN in, NaN out"
    note = "`maximum` passes a NaN on, `fmax` passes it over."
    also = ("Tensor.clamp_min_", "Tensor.clamp_max_")

    def torch(x, y):
        of_two = torch.maximum(x, y), torch.minimum(x, y), torch.fmax(x, y), torch.fmin(x, y)
        return of_two, torch.clamp_min(x, 0), torch.clamp_max(x, 0)

    def jax(x, y):
        of_two = jnp.maximum(x, y), jnp.minimum(x, y), jnp.fmax(x, y), jnp.fmin(x, y)
        return of_two, jnp.maximum(x, 0), jnp.minimum(x, 0)


class Compare(Pair):
    """Compare element by element"""

    inputs = {"x": integers(0, 3, 9), "y": integers(0, 3, 9)}
    also = (
        "torch.gt", "torch.ge", "torch.ne", "torch.greater", "torch.greater_equal", "torch.less", "torch.less_equal",
        "torch.not_equal",
    )  # fmt: skip

    def torch(x, y):
        return x == y, x.ne(y), torch.eq(x, y), torch.lt(x, y), torch.le(x, 1), x > y, x >= y

    def jax(x, y):
        return x == y, x != y, jnp.equal(x, y), jnp.less(x, y), jnp.less_equal(x, 1), x > y, x >= y


class CloseEnough(Pair):
    """Equal, or close enough"""

    inputs = {"x": np.array([1.0, 2.0, np.nan], np.float32)}
    note = "The defaults agree: `rtol=1e-5, atol=1e-8`, NaN unlike NaN. `array_equal` is False where shapes differ."
    also = ("Tensor.equal", "Tensor.allclose", "Tensor.isclose")

    def torch(x):
        near = x + 1e-6
        with_nan = torch.allclose(x, near, equal_nan=True)
        return torch.equal(x, near), torch.allclose(x, near), with_nan, torch.isclose(x, near)

    def jax(x):
        near = x + 1e-6
        with_nan = jnp.allclose(x, near, equal_nan=True)
        return jnp.array_equal(x, near), jnp.allclose(x, near), with_nan, jnp.isclose(x, near)

    def claims():
        assert not jnp.array_equal(jnp.ones(2), jnp.ones(3)) and not torch.equal(torch.ones(2), torch.ones(3))
        for value, distance, close in ((1, 0.9e-5, True), (1, 1.1e-5, False), (0, 0.9e-8, True), (0, 1.1e-8, False)):
            theirs = torch.allclose(torch.tensor(value + distance), torch.tensor(float(value)))
            assert theirs == bool(jnp.allclose(value + distance, float(value))) == close


class Logic(Pair):
    """Logical and, or, xor, not"""

    inputs = {"a": booleans(6), "b": booleans(6), "n": integers(0, 3, 6)}
    note = "`and`, `or` and `not` of more than one element raise on both sides."
    also = ("torch.logical_xor", "Tensor.logical_and_", "Tensor.logical_not_", "Tensor.logical_or_")

    def torch(a, b, n):
        return a & b, a | b, a ^ b, ~a, torch.logical_and(a, n), torch.logical_or(a, n), torch.logical_not(n)

    def jax(a, b, n):
        return a & b, a | b, a ^ b, ~a, jnp.logical_and(a, n), jnp.logical_or(a, n), jnp.logical_not(n)

    def claims():
        assert raises(RuntimeError, lambda: torch.ones(2) and 1) and raises(ValueError, lambda: jnp.ones(2) and 1)
        assert raises(RuntimeError, lambda: not torch.ones(2)) and raises(ValueError, lambda: not jnp.ones(2))


class InvertMask(Pair):
    """Invert a mask"""

    inputs = {"mask": booleans(6)}
    trap = "PyTorch refuses `1 - mask`. JAX computes it, an int32: as an index it picks elements 0 and 1, not a mask."

    def torch(mask):
        return 1 - mask

    def jax(mask):
        return 1 - mask

    def fix(mask):
        return ~mask

    def differ(theirs, ours, fixed):
        picked = jnp.arange(6.0)[ours]
        numbers = ours.dtype == jnp.int32 and picked.tolist() == ours.tolist()
        return isinstance(theirs, RuntimeError) and numbers and fixed.tolist() == (ours == 1).tolist()


class Bits(Pair):
    """Bitwise operations and shifts"""

    inputs = {"x": integers(-9, 9, 6), "y": integers(0, 9, 6)}
    note = "A right shift keeps the sign on both sides. `gcd` and `lcm` have the same names."
    also = (
        "Tensor.bitwise_and_", "Tensor.bitwise_or_", "Tensor.bitwise_xor_", "Tensor.bitwise_not_", "torch.gcd",
        "torch.lcm",
    )  # fmt: skip

    def torch(x, y):
        shifts = torch.bitwise_left_shift(x, 2), torch.bitwise_right_shift(x, 1)
        return torch.bitwise_and(x, y), torch.bitwise_or(x, y), x.bitwise_xor(y), x.bitwise_not(), shifts

    def jax(x, y):
        return x & y, x | y, x ^ y, ~x, (x << 2, x >> 1)

    def claims():
        assert (jnp.array([-8]) >> 1).tolist() == (torch.tensor([-8]) >> 1).tolist() == [-4]
        assert int(jnp.gcd(12, 18)) == int(torch.gcd(torch.tensor(12), torch.tensor(18))) == 6
        assert int(jnp.lcm(4, 6)) == int(torch.lcm(torch.tensor(4), torch.tensor(6))) == 12


class Finite(Pair):
    """Find NaN and infinity, or replace them"""

    inputs = {"x": np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)}
    also = ("Tensor.nan_to_num_",)

    def torch(x):
        infinite = torch.isinf(x), torch.isposinf(x), torch.isneginf(x)
        return torch.isnan(x), infinite, torch.isfinite(x), torch.nan_to_num(x, nan=-1.0)

    def jax(x):
        infinite = jnp.isinf(x), jnp.isposinf(x), jnp.isneginf(x)
        return jnp.isnan(x), infinite, jnp.isfinite(x), jnp.nan_to_num(x, nan=-1.0)


class WhereScalars(Pair):
    """Choose between two numbers"""

    inputs = {"mask": booleans(5), "x": normal(5)}
    note = "Two Python integers make int64 in PyTorch and int32 in JAX; a Python number does not widen an array."
    also = ("Tensor.where",)

    def torch(mask, x):
        return torch.where(mask, 1, 0), torch.where(mask, x, 0.0), torch.where(mask, x.bfloat16(), 0.0)

    def jax(mask, x):
        return jnp.where(mask, 1, 0), jnp.where(mask, x, 0.0), jnp.where(mask, x.astype(jnp.bfloat16), 0.0)

    def claims():
        assert torch.where(torch.ones(1) > 0, 1, 0).dtype == torch.int64
        assert jnp.where(jnp.ones(1) > 0, 1, 0).dtype == jnp.int32


class ScalarTensor(Pair):
    """Multiply by a tensor without dimensions"""

    inputs = {"x": normal(3), "scale": normal(3)}
    no_gradient = "compiled, XLA keeps intermediates wider than bfloat16"
    trap = (
        "A tensor of shape () does not widen a vector in PyTorch. In JAX a float32 of shape () makes bfloat16 float32."
    )
    tolerance = 1e-2  # a digit of bfloat16: PyTorch multiplies in float32 and rounds once

    def torch(x, scale):
        return x.to(torch.bfloat16) * scale.mean()

    def jax(x, scale):
        return x.astype(jnp.bfloat16) * scale.mean()

    def fix(x, scale):
        return x.astype(jnp.bfloat16) * scale.mean().astype(jnp.bfloat16)

    def differ(theirs, ours):
        return theirs.dtype == torch.bfloat16 and ours.dtype == jnp.float32


class CastOutOfRange(Pair):
    """Cast floats that do not fit to integers"""

    inputs = {"x": np.array([-1.0, 300.0, 2.7], np.float32)}
    trap = (
        "A float that does not fit a uint8 wraps in PyTorch (C leaves it open), and stops at 0 or 255 in "
        "JAX. Integers wrap in both."
    )

    def torch(x):
        return x.to(torch.uint8)

    def jax(x):
        return x.astype(jnp.uint8)

    def fix(x):
        return x.astype(jnp.int32).astype(jnp.uint8)

    def differ(theirs, ours):
        wrapping = jnp.array([-1, 300]).astype(jnp.uint8).tolist() == torch.tensor([-1, 300]).to(torch.uint8).tolist()
        return wrapping and theirs.tolist() == [255, 44, 2] and ours.tolist() == [0, 255, 2]


class ImageBytes(Pair):
    """Pixels between floats and bytes"""

    inputs = {"x": positive(2, 3)}

    def torch(x):
        pixels = x.mul(255).round().clamp(0, 255).to(torch.uint8)
        return pixels, pixels.float() / 255

    def jax(x):
        pixels = jnp.clip(jnp.round(x * 255), 0, 255).astype(jnp.uint8)
        return pixels, pixels.astype(jnp.float32) / 255


class ResultType(Pair):
    """The dtype that a calculation will have"""

    note = "float16 with bfloat16 is float32 on both sides; integers with floats keep the float's width."
    also = ("Tensor.is_floating_point",)

    def torch():
        promoted = torch.promote_types(torch.bfloat16, torch.float16)
        mixed = torch.result_type(torch.ones(2, dtype=torch.float16), torch.ones(2, dtype=torch.int32))
        return promoted == torch.float32, mixed == torch.float16, torch.is_floating_point(torch.ones(2))

    def jax():
        promoted = jnp.promote_types(jnp.bfloat16, jnp.float16)
        mixed = jnp.result_type(jnp.ones(2, jnp.float16), jnp.ones(2, jnp.int32))
        return promoted == jnp.float32, mixed == jnp.float16, jnp.issubdtype(jnp.float32, jnp.floating)

    def claims():
        assert all(ResultType.torch()) and all(ResultType.jax())


class DtypeLimits(Pair):
    """Largest number, smallest number, epsilon of a dtype"""

    also = ("torch.finfo", "torch.iinfo")

    def torch():
        info = torch.finfo(torch.bfloat16)
        return info.eps, info.max, info.min, info.tiny, torch.iinfo(torch.int32).max

    def jax():
        info = jnp.finfo(jnp.bfloat16)
        return float(info.eps), float(info.max), float(info.min), float(info.tiny), jnp.iinfo(jnp.int32).max


class Complex(Pair):
    """Complex numbers: parts, angle, conjugate"""

    inputs = {"x": normal(4), "y": normal(4)}
    also = ("torch.conj", "Tensor.imag", "Tensor.real", "Tensor.angle")

    def torch(x, y):
        z = torch.complex(x, y)
        parts = torch.real(z), torch.imag(z), z.abs(), torch.angle(z)
        return parts, torch.polar(x, y), z.conj() * z, torch.is_complex(z), torch.is_complex(x)

    def jax(x, y):
        z = lax.complex(x, y)
        parts = z.real, z.imag, jnp.abs(z), jnp.angle(z)
        return parts, x * jnp.exp(1j * y), z.conj() * z, jnp.iscomplexobj(z), jnp.iscomplexobj(x)


class RealAsComplex(Pair):
    """Pairs of floats as complex numbers"""

    inputs = {"x": normal(4, 2)}
    note = "As rotary position embeddings do."

    def torch(x):
        z = torch.view_as_complex(x) * 1j
        return torch.view_as_real(z)

    def jax(x):
        z = lax.complex(x[..., 0], x[..., 1]) * 1j
        return jnp.stack([z.real, z.imag], axis=-1)


class IsIn(Pair):
    """Which elements are in a set"""

    inputs = {"x": integers(0, 9, 6)}

    def torch(x):
        return torch.isin(x, torch.tensor([2, 3, 5]))

    def jax(x):
        return jnp.isin(x, jnp.array([2, 3, 5]))


class TruthOfOne(Pair):
    """A tensor of one element as a condition"""

    inputs = {"x": integers(-1, 2, 1, 1)}
    note = (
        "Both take one element of any shape for a bool; more than one raises on both sides, an empty one too. Under "
        "`jit` JAX raises: see the `if` among the control flow."
    )
    also = ("torch.is_nonzero",)

    def torch(x):
        return bool(x > 0), x.is_nonzero()

    def jax(x):
        return bool(x > 0), bool(x != 0)

    def claims():
        assert raises(jax.errors.TracerBoolConversionError, jax.jit(bool), jnp.ones(1))
        for count in (0, 2):
            assert raises(RuntimeError, lambda count=count: bool(torch.ones(count)))
            assert raises(ValueError, lambda count=count: bool(jnp.ones(count)))


class ByteMask(Pair):
    """A mask of uint8 as an index"""

    inputs = {"x": normal(4), "mask": np.array([0, 1, 0, 1], np.uint8)}
    no_gradient = "the length of the result depends on values"
    trap = "PyTorch (with a warning) takes uint8 for a mask, JAX for row numbers."

    @quiet
    def torch(x, mask):
        return x[mask]

    def jax(x, mask):
        return x[mask]

    def fix(x, mask):
        return x[mask.astype(bool)]

    def differ(theirs, ours):
        return theirs.shape == (2,) and ours.shape == (4,) and ours[0] == ours[2] and ours[1] == theirs[0].item()
