"""What both batch normalisations compute. Needs JAX."""

from __future__ import annotations

from collections.abc import Callable

import jax


def unbiased(
    count: int, shape: tuple[int, ...], axis_name: str | None, mask: jax.Array | None
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The running variance with the unbiased variance in the place of the biased one.

    Args:
      count: numbers for each feature, on this device.
      shape: of the batch, for the message.
      axis_name: the axis over whose devices the statistics are taken, if any.
      mask: refused: masked numbers would have to be counted.
    Returns:
      Of what is kept (momentum times the old variance) and the variance that flax computed: the corrected variance.
    """
    if mask is not None:
        raise ValueError("expected no mask, got one, whose numbers are not counted; use flax's BatchNorm")
    if axis_name is not None:
        count *= jax.lax.psum(1, axis_name)
    if count < 2:
        raise ValueError(f"expected two numbers or more per feature in training mode, got {shape}; use eval mode")
    return lambda kept, moved: kept + (moved - kept) * count / (count - 1)
