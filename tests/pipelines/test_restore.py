"""The tensor core on a tiny real model: segments agree, every option acts, any size works."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tiny_upscaler import moving_clip, tiny_upscaler
from torch.nn import functional as F

from legato.errors import InputError
from legato.flow.dis import DisFlow
from legato.pipelines import decode, fidelity
from legato.pipelines.carried import Carried
from legato.pipelines.decode import BrokenOutputError, Decoder, is_broken
from legato.pipelines.restore import RestoreOptions, Restorer
from legato.pipelines.tiles import plan_tiles

FAR = 45.0  # dB, the design's bar for segments against the whole


def restorer(model=None, **options):
    return Restorer(
        model or tiny_upscaler(),
        RestoreOptions(**({"color": "none"} | options)),
        device=torch.device("cpu"),
        dtype=torch.float32,
        estimator=DisFlow(),
    )


def restore(core, clip, *, segment=1000, through=None, ticks=None):
    """Restore a shot by segments; `through` may replace the state between them."""
    times = list(range(len(clip))) if ticks is None else ticks
    frames, state, position = [], None, 0
    while position < len(clip):
        stop = min(position + segment, len(clip))
        before = min(core.context_before, position)
        after = min(core.context_after, len(clip) - stop)
        own = slice(position - before, stop + after)
        out, state = core(
            clip[own], times[own], num_anchors=before, num_lookahead=after, state=state
        )
        assert len(out) == stop - position
        if through is not None:
            state = through(state)
        frames.append(out)
        position = stop
    return torch.cat(frames)


def psnr(a, b):
    """Per frame, dB over the range of 2."""
    return 10 * torch.log10(4 / (a - b).square().mean(dim=(1, 2, 3)).clamp(min=1e-12))


@pytest.fixture(scope="module")
def clip():
    return moving_clip(20, 17, 22)


@pytest.fixture(scope="module")
def plain(clip):
    return restore(restorer(), clip[:9])


@pytest.mark.parametrize(
    ("segment", "options"),
    [
        (7, {}),
        (1, {}),
        (5, {"num_inference_steps": 3, "propagate": "0,1,2"}),
        (6, {"num_inference_steps": 2, "consistency": "propagation"}),
        (1, {"consistency": "fusion"}),
        (4, {"consistency": "temporal,propagation,fusion"}),
        pytest.param(1, {"num_inference_steps": 3, "propagate": "late"}, marks=pytest.mark.slow),
        pytest.param(
            7,
            {"num_inference_steps": 2, "guidance_scale": 3.0, "prompt": "face"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            8, {"num_inference_steps": 4, "strength": 0.5, "tile": 16}, marks=pytest.mark.slow
        ),
    ],
)
def test_segments_agree_with_the_whole_shot(segment, options):
    core, clip = restorer(**options), moving_clip(20, 7, 22)
    assert psnr(restore(core, clip), restore(core, clip, segment=segment)).min() > FAR


def blind(share):
    model = tiny_upscaler()
    schedule = model.schedule | {"blind_start": True}
    defaults = replace(model.defaults, first_estimate_share=share)
    return replace(model, schedule=schedule, defaults=defaults)


@pytest.mark.parametrize("propagate", ["late", "0"])
def test_segments_agree_where_the_first_estimate_has_a_share(propagate):
    core = restorer(blind(0.5), num_inference_steps=3, propagate=propagate)
    clip = moving_clip(20, 7, 22)
    assert psnr(restore(core, clip), restore(core, clip, segment=5)).min() > FAR


def test_the_first_estimate_of_a_blind_start_has_its_share_in_the_result(clip):
    def found(share, **options):
        return restore(restorer(blind(share), consistency="none", **options), clip[:4])

    one, three = found(0.5), found(0.0, num_inference_steps=3)
    assert torch.equal(one, found(0.0))
    assert not torch.equal(three, found(0.5, num_inference_steps=3))
    torch.testing.assert_close(found(1.0, num_inference_steps=3), one)
    part_way = {"num_inference_steps": 4, "strength": 0.5}
    assert torch.equal(found(0.0, **part_way), found(0.5, **part_way))


def test_the_input_is_trusted_as_the_model_says_but_not_by_the_reference(clip, monkeypatch):
    monkeypatch.setattr(fidelity, "BARELY_CHANGED", 1000.0)  # these weights change everything
    monkeypatch.setattr(fidelity, "CHANGED", 2000.0)

    def found(trust, **options):
        model = tiny_upscaler()
        model = replace(model, defaults=replace(model.defaults, trust=trust))
        return restore(restorer(model, consistency="none", **options), clip[:2])

    def distance(frames):
        return (clip[:2] - F.avg_pool2d(frames, 4)).square().mean()

    some, more = found(0.2), found(0.4)
    assert distance(more) < distance(some) < distance(found(0.0))
    as_reference = {"compat": "reference"}
    assert torch.equal(found(0.4, **as_reference), found(0.0, **as_reference))


def test_what_comes_back_of_the_input_is_fused_with_the_rest(clip, monkeypatch):
    fused = []

    def fuse(self, frames, *, is_last):
        fused.append(frames.clone())
        return frames

    monkeypatch.setattr(decode.TemporalFusion, "__call__", fuse)
    monkeypatch.setattr(decode, "trust_clean", lambda frames, _, *, most: frames.fill_(most))
    model = tiny_upscaler()
    model = replace(model, defaults=replace(model.defaults, trust=0.25))
    restore(restorer(model, consistency="fusion"), clip[:3])
    assert torch.equal(torch.cat(fused), torch.full_like(torch.cat(fused), 0.25))
    assert sum(len(frames) for frames in fused) == 3


@pytest.mark.slow
def test_a_long_shot_in_segments_of_thirty_two_agrees_too():
    long = moving_clip(75, 8, 8)
    core = restorer(num_inference_steps=3)
    assert psnr(restore(core, long), restore(core, long, segment=32)).min() > FAR


def test_without_state_the_segments_differ(clip):
    """The agreement above is earned: it fails when the state is lost."""
    core, clip = restorer(num_inference_steps=2), clip[:12]
    whole = restore(core, clip)
    lossy = restore(core, clip, segment=5, through=lambda s: Carried(position=s.position))
    assert psnr(whole, lossy).min() < FAR


def test_a_stored_state_continues_bit_for_bit(clip, tmp_path):
    core, clip = restorer(num_inference_steps=2), clip[:12, ..., :9, :14]

    def stored(state):
        state.save(tmp_path / "state.safetensors")
        return Carried.load(tmp_path / "state.safetensors")

    assert torch.equal(
        restore(core, clip, segment=6), restore(core, clip, segment=6, through=stored)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_one_step_runs_every_window_once(clip):
    """Predictions of the look-ahead are handed on, so short segments cost no more U-Net passes."""
    model, calls = tiny_upscaler(), []

    def count(module, args, output):
        calls.append(1)

    handle = model.unet.register_forward_hook(count)
    try:
        restore(restorer(), clip)
        whole = len(calls)
        restore(restorer(), clip, segment=3)
    finally:
        handle.remove()
    assert whole == 3
    assert len(calls) - whole == 3


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"num_inference_steps": 2},
        {"noise_level": 200},
        {"prompt": "face"},
        {"consistency": "none"},
        {"consistency": "temporal"},
        {"consistency": "propagation"},
        {"consistency": "temporal,propagation,fusion"},
        {"propagate": "none"},
        {"color": "wavelet"},
        {"color": "adain"},
        {"fidelity": 1.0},
        {"strength": 0.5},
        {"tile": 16},
        {"window": 4},
    ],
    ids=str,
)
def test_the_option_changes_the_output(clip, plain, options):
    assert psnr(restore(restorer(**options), clip[:9]), plain).min() < 55


def test_compat_cuts_time_as_the_reference_does(clip, plain):
    core = restorer(compat="reference")
    decoder = core._applied.decoder(plan_tiles(24, 24, tile=0), (17, 22))
    assert decoder.chunks(0, 8) == [(0, 3), (3, 6), (6, 8)]
    assert psnr(restore(core, clip[:9]), plain).min() < 55


def test_compat_refuses_a_segment_that_is_not_a_whole_shot(clip):
    with pytest.raises(InputError, match=r"compat='reference'.*--segment"):
        restore(restorer(compat="reference"), clip, segment=10)


@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
def test_the_solver_changes_three_steps_and_is_refused_at_fewer(clip, solver):
    three = restore(restorer(num_inference_steps=3), clip[:9])
    assert psnr(restore(restorer(num_inference_steps=3, solver=solver), clip[:9]), three).min() < 55
    few = {"num_inference_steps": 2}, {"num_inference_steps": 4, "strength": 0.5}, {}
    for steps in few:
        with pytest.raises(InputError, match=r"solver=.*the same as ddim"):
            restorer(solver=solver, **steps)


def test_guidance_and_negative_prompt_change_the_output(clip):
    guided = {"prompt": "face", "guidance_scale": 4.0}
    outs = [
        restore(restorer(**options), clip[:3])
        for options in ({"prompt": "face"}, guided, guided | {"negative_prompt": "blur"})
    ]
    assert psnr(outs[0], outs[1]).min() < 60
    assert psnr(outs[1], outs[2]).min() < 60


@pytest.mark.parametrize("phase", ["early", "late"])
def test_the_phase_of_propagation_changes_the_output(clip, phase):
    middle = restore(restorer(num_inference_steps=6), clip[:5])
    other = restore(restorer(num_inference_steps=6, propagate=phase), clip[:5])
    assert psnr(middle, other).min() < 60


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 9), (5, 3), (17, 22)])
@pytest.mark.parametrize("num_frames", [1, 2])
def test_any_size_and_number_of_frames_works(rows, cols, num_frames):
    out = restore(restorer(color="wavelet", fidelity=0.5), moving_clip(num_frames, rows, cols))
    assert out.shape == (num_frames, 3, 4 * rows, 4 * cols)
    assert torch.isfinite(out).all()
    assert out.abs().max() <= 1


def test_padding_is_cut_away_from_the_right_side(clip):
    """The output, reduced, fits the input best where it is, not a pixel beside."""
    out = F.avg_pool2d(restore(restorer(), clip[:2]), 4)

    def misfit(dy, dx):
        moved = torch.roll(clip[:2], (dy, dx), dims=(2, 3))
        return float((out - moved)[..., 2:-2, 2:-2].abs().mean())

    places = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    assert min(places, key=lambda place: misfit(*place)) == (0, 0)


def test_a_frames_result_depends_on_its_time_not_its_place(clip):
    """Without what joins frames, a clip that starts later gives the same frames."""
    core = restorer(consistency="none")
    whole = restore(core, clip[:6])
    late = restore(core, clip[2:6], ticks=[2, 3, 4, 5])
    assert psnr(whole[2:], late).min() > 100
    assert psnr(whole[2:], restore(core, clip[2:6])).max() < 60


def test_tiles_agree_with_whole_frames_about_as_well_as_seeds_do_not():
    """Tiles share every step: far closer to whole frames than another noise is."""
    wide = moving_clip(3, 32, 48)
    options = {"num_inference_steps": 3}
    whole = restore(restorer(**options), wide)
    tiled = restore(restorer(**options, tile=24), wide)
    other = restore(restorer(**options, seed=1), wide)
    assert psnr(whole, tiled).mean() > psnr(whole, other).mean() + 3


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(("tile", "held"), [(0, "temporal,fusion"), (16, "temporal")])
def test_frames_are_decoded_in_pieces_in_order(clip, monkeypatch, streams, tile, held):
    monkeypatch.setattr("legato.pipelines.decode.CELLS_PER_CHUNK", 24 * 24 * 6)
    monkeypatch.setattr("legato.pipelines.decode.CELLS_PER_PIECE", 24 * 24 * 2)
    core = restorer(replace(tiny_upscaler(), streams=streams), tile=tile, consistency=held)
    chunks, _ = core.stream(clip[:10], range(10), num_anchors=0, num_lookahead=0, state=None)
    pieces = [chunk.clone() for chunk in chunks]
    assert len(pieces) > 1
    monkeypatch.undo()
    assert psnr(torch.cat(pieces), restore(core, clip[:10])).min() > 100


@pytest.mark.parametrize(
    ("held", "prompt"), [("temporal", "face"), ("fusion", "face"), ("fusion", "")]
)
def test_progress_ends_at_its_total(clip, held, prompt):
    seen = []
    core = restorer(num_inference_steps=2, guidance_scale=2.0, prompt=prompt, consistency=held)
    core(
        clip[:9],
        range(9),
        num_anchors=0,
        num_lookahead=0,
        state=None,
        on_pass=seen.append,
    )
    assert seen == [done / len(seen) for done in range(1, len(seen) + 1)]


@pytest.mark.parametrize(
    ("part", "strength"), [("features", 0.25), ("temporal-guided,cross-frame", 0.25)]
)
def test_a_named_part_that_acts_at_no_step_is_refused(part, strength):
    few = {"num_inference_steps": 4, "strength": strength}
    with pytest.raises(InputError, match=f"{part.split(',')[0]} acts at none of the last 1") as e:
        restorer(tiny_upscaler(), consistency=part, **few)
    assert "\n" not in str(e.value)
    restorer(tiny_upscaler(), consistency=part, **few | {"strength": 0.75})
    told = restorer(tiny_upscaler(), consistency="fresco", **few).notices
    assert [said.split()[0] for said in told] == ["temporal-guided", "features", "background"]


def test_strength_without_an_encoder_is_refused():
    with pytest.raises(InputError, match="no encoder"):
        restorer(replace(tiny_upscaler(), has_encoder=False), strength=0.5)


def test_context_before_the_first_segment_is_not_emitted(clip):
    out, state = restorer()(clip[:9], range(9), num_anchors=3, num_lookahead=0, state=None)
    assert len(out) == 6
    assert state.position == 9


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_broken_output_is_reported(clip, broken):
    model = tiny_upscaler()

    class Broken(type(model)):
        def decode(self, latents, low_res, *, temporal=True):
            return super().decode(latents, low_res, temporal=temporal) * broken

    with pytest.raises(BrokenOutputError, match="float32"):
        restore(
            restorer(Broken(unet=model.unet, autoencoder=model.autoencoder, streams=False)),
            clip[:2],
        )


@pytest.mark.parametrize(
    ("out", "given", "expected"),
    [(-1.0, 0.0, True), (-1.0, -1.0, False), (-0.9, 0.0, False), (float("nan"), -1.0, True)],
)
def test_black_counts_as_broken_where_the_input_is_not_black(out, given, expected):
    frames, low_res = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 2, 2)
    frames[1], low_res[1] = out, given
    assert is_broken(frames, low_res) is expected


def test_a_damaged_state_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    Carried(position=3, tensors={"latents": torch.rand(1, 2)}).save(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="--restart"):
        Carried.load(path)


def test_chunks_cover_the_range_with_bounded_memory():
    decoder = Decoder(
        decode=lambda latents, low_res: latents,
        tiles=plan_tiles(180, 320, tile=0),
        context=5,
        scale=4,
        size=(180, 320),
    )
    chunks = decoder.chunks(3, 40)
    assert chunks[0][0] == 3
    assert chunks[-1][1] == 40
    assert all(a[1] == b[0] for a, b in pairwise(chunks))
    assert max((stop - start + 10) * 180 * 320 for start, stop in chunks) <= 1 << 20


def test_the_global_generator_is_left_alone(clip):
    before = torch.get_rng_state()
    restore(restorer(num_inference_steps=2), clip[:3])
    assert torch.equal(torch.get_rng_state(), before)
