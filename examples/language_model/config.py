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
    steps: int = 900
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
        def expect(name: str, holds: bool, expected: str) -> None:
            if not holds:
                got = getattr(self, name)
                raise OptionError(f"expected {expected}, got --{name} {got!r}; give --{name} another value")

        positive = "vocab context width layers heads hidden steps batch accumulate rate clip evaluate_every"
        for name in positive.split():
            expect(name, getattr(self, name) > 0, f"{name} above 0")
        for name in ("warmup", "weight_decay", "save_every"):
            expect(name, getattr(self, name) >= 0, f"{name} of at least 0")
        for name in ("dropout", "ema"):
            expect(name, 0 <= getattr(self, name) < 1, f"{name} in [0, 1)")
        for name in ("dtype", "param_dtype"):
            known = ("float32", "bfloat16", "float64")
            expect(name, getattr(self, name) in known, f"{name} among {', '.join(known)}")
        expect("width", self.width % (2 * self.heads) == 0, f"a width that twice heads={self.heads} divides")
        expect("batch", self.batch % self.accumulate == 0, f"a batch that accumulate={self.accumulate} divides")

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
                remedy = f"did you mean --{near[0]}?" if near else "each is a field of examples.language_model.Config"
                raise OptionError(f"expected an option among --{', --'.join(types)}, got {option!r}; {remedy}")
            kind = types[name]
            if kind is bool and (not rest or rest[0].startswith("--")):
                rest.insert(0, "true")
            text = rest.pop(0) if rest else None
            try:
                if text is None:
                    raise ValueError
                values[name] = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
            except (ValueError, KeyError):
                example = f"write --{name} {getattr(cls, name)!r}"
                raise OptionError(f"expected --{name} and {kind.__name__}, got {text!r}; {example}") from None
        return cls(**values)
