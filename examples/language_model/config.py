"""What a run is: one frozen dataclass, each field an option of the command line. Needs nothing but Python."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any, get_type_hints


class OptionError(ValueError):
    """An option of the command line, or a value of the configuration, that is none."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A model, its training and its run; every field is an option, `--width 256`.

    Raises:
      OptionError: a value is out of range, or two do not go together.
    """

    # the model
    vocab: int = 1024  # pieces of text
    context: int = 64  # tokens that the model sees
    width: int = 128
    layers: int = 3
    heads: int = 4
    hidden: int = 512  # width inside of each block's MLP
    dropout: float = 0.0
    dtype: str = "float32"  # of the computation; bfloat16 on accelerators
    param_dtype: str = "float32"
    remat: bool = False  # compute each block's activations again in the backward pass
    # its training
    steps: int = 600
    batch: int = 16  # sequences in a step, over all devices
    accumulate: int = 1  # parts of a batch, one after the other
    rate: float = 3e-3  # the learning rate's highest value
    warmup: int = 50  # steps on the way there; a cosine leads from there to a tenth
    weight_decay: float = 0.1
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.99  # share of the old weights in their moving average
    # its run
    seed: int = 0
    mesh: str = ""  # "data=2,tensor=2"; all devices on `data` where empty
    folder: str = "build/language_model"
    evaluate_every: int = 200  # steps
    save_every: float = 30.0  # seconds
    profile: bool = False  # trace steps 10 to 20 into the folder

    def __post_init__(self) -> None:
        for name in (
            "vocab", "context", "width", "layers", "heads", "hidden", "steps", "batch", "accumulate", "rate", "clip",
            "evaluate_every",
        ):  # fmt: skip
            _expect(getattr(self, name) > 0, f"{name} above 0", getattr(self, name), f"give --{name} another value")
        for name in ("dropout", "ema"):
            _expect(0 <= getattr(self, name) < 1, f"{name} in [0, 1)", getattr(self, name), f"give --{name} another")
        for name in ("warmup", "weight_decay", "save_every"):
            _expect(getattr(self, name) >= 0, f"{name} of at least 0", getattr(self, name), f"give --{name} another")
        per_head = f"a width that an even number times heads={self.heads} is"
        _expect(self.width % (2 * self.heads) == 0, per_head, self.width, "give --width or --heads another value")
        parts = f"a batch that accumulate={self.accumulate} divides"
        _expect(self.batch % self.accumulate == 0, parts, self.batch, "give --batch or --accumulate another value")
        for name in ("dtype", "param_dtype"):
            known = ("float32", "bfloat16", "float64")
            _expect(getattr(self, name) in known, f"{name} among {', '.join(known)}", getattr(self, name), "take one")

    @classmethod
    def from_options(cls, options: Sequence[str], **defaults: Any) -> Config:
        """The configuration that the command line asks for.

        Args:
          options: pairs, `["--width", "256"]`; the value of a switch, true or false, may be left out.
          defaults: fields that are not as in the class where no option says otherwise.
        Raises:
          OptionError: there is no such option, or its value is none of its type.
        Example: >>> Config.from_options(["--width", "256", "--remat"]).width
                 256
        """
        types, values, rest = get_type_hints(cls), dict(defaults), list(options)
        while rest:
            option = rest.pop(0)
            name = option.removeprefix("--").replace("-", "_")
            if not option.startswith("--") or name not in types:
                near = difflib.get_close_matches(name, types, n=1)
                raise OptionError(
                    f"expected an option among {', '.join(f'--{known}' for known in types)}, got {option!r}; "
                    + (f"did you mean --{near[0]}?" if near else "each is a field of examples.language_model.Config")
                )
            kind = types[name]
            if kind is bool and (not rest or rest[0].startswith("--")):
                rest.insert(0, "true")
            values[name] = _value(name, kind, rest.pop(0) if rest else None)
        return cls(**values)


def _value(name: str, kind: type, text: str | None) -> Any:
    try:
        if text is None:
            raise ValueError
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        example = {int: "8", float: "1e-3", bool: "true", str: "text"}[kind]
        raise OptionError(f"expected --{name} and {kind.__name__}, got {text!r}; write --{name} {example}") from None


def _expect(holds: bool, expected: str, got: Any, remedy: str) -> None:
    if not holds:
        raise OptionError(f"expected {expected}, got {got!r}; {remedy}")
