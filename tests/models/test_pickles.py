"""Foreign weights that are damaged in any way are refused in one line."""

from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.errors import ModelError
from legato.models.convert.pickles import read_pickle

STATE = {f"down_blocks.{k}.norm.weight": torch.arange(4.0) for k in range(4)}


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "legacy"])
def weights(request, tmp_path_factory):
    """A file and what it held when it was whole."""
    path = tmp_path_factory.mktemp("weights") / "a.ckpt"
    torch.save(STATE, path, _use_new_zipfile_serialization=request.param)
    return path, path.read_bytes()


@settings(max_examples=300)
@given(
    cut=st.none() | st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
def test_any_damage_is_an_error_of_ours(weights, cut, flips):
    path, whole = weights
    data = bytearray(whole)
    for place, value in flips:
        data[min(int(place * len(data)), len(data) - 1)] = value
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])
    with suppress(ModelError):
        assert all(isinstance(value, torch.Tensor) for value in read_pickle(path).values())


def test_whole_files_are_read(weights):
    path, whole = weights
    path.write_bytes(whole)
    assert all(torch.equal(value, STATE[key]) for key, value in read_pickle(path).items())
