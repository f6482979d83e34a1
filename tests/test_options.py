"""Options take what their annotations say, for callers in Python too, and name what they refuse."""

import pickle
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import legato
from legato.errors import InputError
from legato.options import require_types

KINDS = [getattr(legato, name) for name in legato.__all__ if name.endswith("Options")]
REQUIRED = {"DegradeOptions": {"severity": "s1"}}


@dataclass(frozen=True, kw_only=True)
class Options:
    flag: bool = False
    steps: int | None = None
    scale: float = 1.0
    name: str = ""
    path: Path | None = None
    solver: Literal["ddim", "unipc"] = "ddim"
    context: Literal[1, 2] = 2
    prompts: tuple[str, ...] = ()
    size: tuple[int, float] | None = None

    def __post_init__(self):
        require_types(self)


@pytest.mark.parametrize(
    "given",
    [
        {"steps": np.int64(3), "scale": np.float32(2)},
        {"scale": 2, "steps": None},
        {"scale": Fraction(3, 2)},
        {"path": Path("a"), "prompts": ("a", "b"), "size": (1, 2)},
    ],
)
def test_what_fits_is_kept(given):
    made = Options(**given)
    assert all(getattr(made, name) is value for name, value in given.items())
    assert pickle.loads(pickle.dumps(replace(made, name="x"))) == replace(made, name="x")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": "4"}, "steps='4': it is of type str; use a whole number or None"),
        ({"steps": 4.0}, "steps=4.0: it is of type float; use a whole number or None"),
        ({"steps": True}, "steps=True: it is of type bool; use a whole number or None"),
        ({"scale": "2"}, "scale='2': it is of type str; use a number"),
        ({"scale": None}, "scale=None: it is of type NoneType; use a number"),
        ({"flag": 1}, "flag=1: it is of type int; use True or False"),
        ({"name": b"x"}, "name=b'x': it is of type bytes; use text"),
        ({"path": "a"}, "path='a': it is of type str; use a pathlib.Path or None"),
        ({"solver": 1}, "solver=1: it is of type int; use ddim, unipc"),
        ({"context": "2"}, "context='2': it is of type str; use 1, 2"),
        ({"prompts": ["a"]}, "prompts=['a']: it is of type list; use a tuple of text"),
        ({"prompts": ("a", 1)}, "prompts=('a', 1): it is of type tuple; use a tuple of text"),
        ({"size": (1,)}, "size=(1,): it is of type tuple; use a tuple of a whole number or None"),
    ],
)
def test_what_does_not_fit_is_named(given, said):
    with pytest.raises(InputError) as refused:
        Options(**given)
    assert str(refused.value) == said


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_public_option_refuses_other_types(kind, data):
    """Put in by the back door: these tests check the types of arguments themselves."""
    made = kind(**REQUIRED.get(kind.__name__, {}))
    field = data.draw(st.sampled_from(fields(kind)))
    object.__setattr__(made, field.name, object())
    with pytest.raises(InputError, match=rf"^{field.name}=.*it is of type object; use .+"):
        made.__post_init__()
