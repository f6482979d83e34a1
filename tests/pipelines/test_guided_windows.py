"""Frames that see each other in an image upscaler: every way acts, and segments agree."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from test_restore import FAR, psnr, restore, restorer
from tiny import tiny_diffusers_upscaler, tiny_unet
from tiny_upscaler import moving_clip, tiny_upscaler

from legato.errors import InputError
from legato.models.inflate import inflate
from legato.models.load import load_upscaler
from legato.pipelines.consistency import NEIGHBOURS, holds
from legato.pipelines.guided_windows import guide_of, plan_of

SEEING = [
    "spatial-guided",
    "cross-frame",
    "cross-frame,temporal-guided",
    "features",
    "features,background",
    *NEIGHBOURS,
]


@pytest.fixture(scope="module")
def clip():
    return moving_clip(5, 16, 16)


@pytest.fixture(scope="module")
def frames_alone(clip):
    return restore(restorer(consistency="none"), clip)


@pytest.mark.parametrize("names", SEEING)
def test_every_way_changes_the_picture(clip, frames_alone, names):
    out = restore(restorer(consistency=names), clip)
    assert out.isfinite().all()
    assert (out - frames_alone).abs().mean() > 1e-5


def test_the_first_frame_is_what_it_is_alone_where_it_reads_from_itself_only(clip, frames_alone):
    out = restore(restorer(consistency="first-frame"), clip)
    torch.testing.assert_close(out[0], frames_alone[0], atol=1e-4, rtol=0)
    assert (out[1:] - frames_alone[1:]).abs().mean() > 1e-4


@pytest.mark.parametrize(
    ("segment", "options"),
    [
        (2, {"consistency": "first-and-previous"}),
        (3, {"consistency": "cross-frame,temporal-guided,shared-noise", "num_inference_steps": 2}),
        pytest.param(
            3, {"consistency": "fresco", "num_inference_steps": 2}, marks=pytest.mark.slow
        ),
        pytest.param(
            4,
            {"consistency": "temporal,propagation,nearest-tokens", "num_inference_steps": 2},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_segments_agree_with_the_whole_shot(segment, options):
    core, clip = restorer(window=4, **options), moving_clip(7, 16, 16)
    assert psnr(restore(core, clip), restore(core, clip, segment=segment)).min() > FAR


@pytest.mark.parametrize("names", ["fresco", "shared-noise"])
def test_a_still_clip_stays_still(names):
    still = moving_clip(1, 16, 16).expand(3, -1, -1, -1)
    out = restore(restorer(consistency=names, num_inference_steps=2), still)
    torch.testing.assert_close(out, out[:1].expand_as(out), atol=2e-3, rtol=0)


def test_one_frame_works():
    one = moving_clip(1, 16, 16)
    assert restore(restorer(consistency="fresco"), one).shape == (1, 3, 64, 64)


def test_frames_with_nothing_in_common_work():
    clip = torch.cat([moving_clip(1, 16, 16, seed=seed) * sign for seed, sign in ((1, 1), (2, -1))])
    assert restore(restorer(consistency="fresco"), clip).isfinite().all()


def test_tiles_are_guided_by_what_lies_in_them():
    clip = moving_clip(2, 16, 40)
    out = restore(restorer(consistency="fresco", tile=16), clip)
    assert out.shape == (2, 3, 64, 160)
    assert out.isfinite().all()


def test_both_texts_in_one_call_give_the_same(clip):
    options = {"consistency": "fresco", "guidance_scale": 2.0, "prompt": "face"}
    apart = restorer(**options)
    together = restorer(**options)
    together._batches_guidance = True
    assert psnr(restore(apart, clip), restore(together, clip)).min() > FAR


def test_the_model_is_left_as_it_was(clip, frames_alone):
    unet = tiny_upscaler().unet.spatial
    before = [m.processor for m in unet.modules() if isinstance(m, Attention)]
    restore(restorer(consistency="fresco"), clip)
    assert [m.processor for m in unet.modules() if isinstance(m, Attention)] == before
    assert torch.equal(restore(restorer(consistency="none"), clip), frames_alone)


@pytest.mark.parametrize("names", ["fresco", "all-frames"])
def test_a_model_without_encoder_is_guided_too(clip, names):
    model = replace(tiny_upscaler(), has_encoder=False)
    with_encoder = restore(restorer(consistency=names), clip)
    without = restore(restorer(model, consistency=names), clip)
    assert without.isfinite().all()
    assert torch.equal(with_encoder, without) == (names == "all-frames")  # nothing is looked up


def test_shared_noise_does_not_depend_on_times(clip):
    core = restorer(consistency="shared-noise", num_inference_steps=2)
    late = [100 + t for t in range(len(clip))]
    assert torch.equal(restore(core, clip), restore(core, clip, ticks=late))


def test_a_model_without_self_attention_is_refused():
    plain = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = inflate(tiny_unet(mid_block_type=None, **plain), "video_ldm")
    with pytest.raises(InputError, match="this model has none"):
        restorer(replace(tiny_upscaler(), unet=unet), consistency="fresco")
    restorer(replace(tiny_upscaler(), unet=unet), consistency="shared-noise")


def test_only_what_is_named_acts():
    plan = plan_of(holds("temporal-guided"))
    parts = plan.at(0, num_executed=8, num_steps=8)
    assert (parts.attention, parts.features) == ({"temporal"}, False)
    every = plan_of(holds("fresco")).at(0, num_executed=1, num_steps=1)
    assert (every.attention, every.features) == ({"spatial", "cross", "temporal"}, True)


def test_fresco_guides_the_decoder_and_its_neighbours_the_whole_network():
    unet = tiny_unet()
    fresco, neighbour = guide_of(unet, holds("fresco")), guide_of(unet, holds("first-frame"))
    assert fresco is not None
    assert neighbour is not None
    assert {site.part for site in fresco.sites} == {"up"}
    assert {site.part for site in neighbour.sites} == {"down", "mid", "up"}
    assert guide_of(unet, holds("temporal,propagation")) is None


def test_an_image_upscaler_in_diffusers_layout_is_guided(tmp_path):
    model = load_upscaler(
        str(tiny_diffusers_upscaler(tmp_path)), torch.device("cpu"), torch.float32
    )
    clip = moving_clip(2, 16, 16)
    alone, seen = (
        restore(restorer(model, consistency=names, num_inference_steps=2), clip)
        for names in ("shared-noise", "fresco")
    )
    assert seen.shape == (2, 3, 64, 64)
    assert (alone - seen).abs().mean() > 1e-4
