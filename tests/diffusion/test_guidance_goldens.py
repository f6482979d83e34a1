"""Guided attention and feature optimisation against float64 NumPy."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from legato.diffusion.feature_optimisation import RELEASED_FEATURES, moved_features
from legato.flow.correspondence import CyclicMotion
from legato.models.guided_attention import spatial_guided, temporal_guided, unique_cross_frame
from legato.models.token_correspondence import TokenCorrespondence

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "guidance" / "golden.safetensors"


@pytest.fixture(scope="module")
def golden():
    """Arrays of one half, by `attention.*` and `features.*`."""
    return load_file(GOLDEN)


def test_guided_attention_is_the_written_out_computation(golden):
    known = {k.removeprefix("attention."): v for k, v in golden.items() if "attention" in k}
    names = ("query", "key", "value", "reference_query", "reference_key")
    query, key, value, reference_query, reference_key = (known[name][None] for name in names)
    forward = known["forward"][:, None]
    tokens = TokenCorrespondence(
        unique=known["unique"],
        forward=forward,
        inverse=forward.argsort(dim=-1),
        link=known["link"][:, None],
    )
    guided = spatial_guided(query, reference_query, reference_key)
    read = unique_cross_frame(guided, key, value, tokens.supply)
    paths = (tokens.forward, tokens.inverse)
    out = temporal_guided(query, key, read, trajectories=paths, link=tokens.link)
    torch.testing.assert_close(out[0], known["out"], rtol=1e-5, atol=1e-6)


def test_features_move_as_gradients_by_hand_say(golden):
    forward, backward = golden["features.flow"]
    occluded_forward, occluded_backward = golden["features.occlusion"]
    out = moved_features(
        golden["features.start"][None],
        flow=CyclicMotion(
            flow_forward=forward,
            flow_backward=backward,
            occluded_forward=occluded_forward.bool(),
            occluded_backward=occluded_backward.bool(),
        ),
        target=golden["features.target"][None],
        options=replace(RELEASED_FEATURES, num_iterations=4),
    )
    torch.testing.assert_close(out[0], golden["features.out"], rtol=1e-4, atol=1e-4)
