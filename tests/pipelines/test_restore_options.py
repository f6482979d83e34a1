"""Options of the restoration: validated once, filled with the model's defaults, round trip."""

from dataclasses import asdict, replace

import pytest
from tiny_upscaler import TinyDefaults

from legato.errors import InputError
from legato.models.load import PER_FRAME
from legato.pipelines.consistency import holds
from legato.pipelines.restore_options import RestoreOptions, propagation_steps, resolve


@pytest.mark.parametrize(
    "bad",
    [
        {"num_inference_steps": 0},
        {"num_inference_steps": 1001},
        {"noise_level": -1},
        {"noise_level": 1000},
        {"guidance_scale": -1.0},
        {"guidance_scale": float("nan")},
        {"fidelity": 1.5},
        {"strength": -0.1},
        {"seed": -1},
        {"window": 0},
        {"tile": 3},
        {"tile": -16},
        {"consistency": "temporal,fresque"},
        {"consistency": "none,temporal"},
        {"consistency": ""},
        {"propagate": "sometimes"},
        {"propagate": "-1"},
        {"propagate": ""},
    ],
)
def test_a_value_that_means_nothing_is_refused(bad):
    with pytest.raises(InputError) as error:
        RestoreOptions(**bad)
    assert str(next(iter(bad.values()))) in error.value.what


def test_options_survive_json():
    options = RestoreOptions(num_inference_steps=4, propagate="1,2", color="adain", tile=64)
    assert RestoreOptions(**asdict(options)) == options


@pytest.mark.parametrize(
    ("words", "steps", "expected"),
    [
        ("early", 30, (2, 4, 6)),
        ("middle", 30, (12, 14, 16)),
        ("late", 30, (22, 24, 26)),
        ("early", 4, (0,)),
        ("middle", 4, (1,)),
        ("late", 4, (2,)),
        ("early", 1, (0,)),
        ("middle", 1, (0,)),
        ("late", 1, (0,)),
        ("none", 30, ()),
        ("4,3, 4", 8, (3, 4)),
    ],
)
def test_words_and_numbers_name_steps(words, steps, expected):
    assert propagation_steps(words, num_inference_steps=steps) == expected


@pytest.mark.parametrize("steps", range(1, 40))
def test_early_is_never_after_middle_nor_middle_after_late(steps):
    early, middle, late = (
        propagation_steps(word, num_inference_steps=steps) for word in ("early", "middle", "late")
    )
    assert 1 <= len(early) <= 3
    assert early <= middle <= late
    assert late[-1] < steps


def test_a_step_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="the steps are 0 to 3"):
        propagation_steps("4", num_inference_steps=4)


def test_consistency_is_a_list():
    assert holds("temporal, propagation") == {"temporal", "propagation"}
    assert holds("none") == frozenset()


def resolved(options, defaults):
    return resolve(options, defaults, has_temporal_layers=True)


def test_fresco_propagates_when_upscaling():
    settings = resolved(RestoreOptions(consistency="fresco"), TinyDefaults())
    assert settings.propagate != "none"
    assert {"features", "propagation"} <= settings.chosen


def test_none_means_the_models_own():
    settings = resolved(RestoreOptions(), TinyDefaults(steps=5, noise_level=33, window=6))
    assert (settings.num_inference_steps, settings.noise_level, settings.window) == (5, 33, 6)
    assert (settings.is_temporal, settings.propagate) == (True, "middle")


def test_a_choice_wins_over_the_models_own():
    options = RestoreOptions(num_inference_steps=2, noise_level=0, guidance_scale=1.0, window=3)
    settings = resolved(options, TinyDefaults(guidance_scale=9.0))
    assert (settings.num_inference_steps, settings.noise_level) == (2, 0)
    assert (settings.guidance_scale, settings.window) == (1.0, 3)


@pytest.mark.parametrize(
    ("chosen", "temporal", "propagate"),
    [
        ({"consistency": "none"}, False, "none"),
        ({"consistency": "temporal"}, True, "none"),
        ({"consistency": "propagation"}, False, "middle"),
        ({"propagate": "late"}, True, "late"),
        ({"propagate": "none"}, True, "none"),
        ({"consistency": "propagation", "propagate": "early"}, False, "early"),
    ],
)
def test_consistency_and_propagate_work_together(chosen, temporal, propagate):
    settings = resolved(RestoreOptions(**chosen), TinyDefaults())
    assert (settings.is_temporal, settings.propagate) == (temporal, propagate)


def test_asking_for_propagation_wins_over_a_model_that_leaves_it_out():
    defaults = TinyDefaults(consistency="temporal", propagate="none")
    assert resolved(RestoreOptions(), defaults).propagate == "none"
    assert resolved(RestoreOptions(propagate="late"), defaults).propagate == "late"
    both = RestoreOptions(consistency="temporal,propagation")
    assert resolved(both, defaults).propagate == "middle"


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"noise_level": 351}, "up to 350"),
        ({"negative_prompt": "blur"}, "guidance scale above 1"),
        ({"consistency": "temporal", "propagate": "late"}, "switches propagation off"),
    ],
)
def test_what_would_have_no_effect_is_refused(chosen, why):
    with pytest.raises(InputError, match=why):
        resolved(RestoreOptions(**chosen), TinyDefaults())


@pytest.mark.parametrize("chosen", ["temporal", "temporal,propagation"])
def test_temporal_layers_that_a_model_lacks_are_refused_by_name_only(chosen):
    defaults = TinyDefaults(consistency=chosen)
    with pytest.raises(InputError, match=r"no temporal layers.*propagation or none"):
        resolve(RestoreOptions(consistency=chosen), defaults, has_temporal_layers=False)
    for other in (None, "propagation", "none"):
        resolve(RestoreOptions(consistency=other), defaults, has_temporal_layers=False)


def test_options_are_frozen():
    with pytest.raises(AttributeError):
        RestoreOptions().seed = 1
    assert replace(RestoreOptions(), seed=1).seed == 1


def test_windows_of_an_image_upscaler_share_frames_where_frames_see_each_other():
    assert (
        resolve(RestoreOptions(consistency="fresco"), PER_FRAME, has_temporal_layers=False).overlap
        == 2
    )
    assert (
        resolve(RestoreOptions(consistency="none"), PER_FRAME, has_temporal_layers=False).overlap
        == 0
    )


@pytest.mark.parametrize("tile", [-1, 8])
def test_a_tile_out_of_range_tells_all_that_can_be(tile):
    with pytest.raises(InputError, match="use 0 for whole frames, or a number from 16 to 1048576"):
        RestoreOptions(tile=tile)
    assert RestoreOptions(tile=0).tile == 0
