"""How a job is computed is chosen by memory, and every way gives the same frames."""

import pytest
import torch
from tiny import tiny_diffusers_upscaler
from tiny_upscaler import moving_clip

from legato.apps.plan import describe
from legato.device import largest_int8_weight
from legato.errors import InputError, ResourceError
from legato.pipelines import restorers as module
from legato.pipelines.decode import frames_decoded
from legato.pipelines.forecast import plan
from legato.pipelines.memory import SHARE
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.restorers import Restorers, fit_into_memory
from legato.pipelines.run_options import RunOptions
from legato.pipelines.saved_plan import Execution
from legato.video.probe import probe

WANTED = Execution(tile=None, window=4, segment=4, dtype="float32")


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """A model of diffusers' layout, whose default guidance scale is above 1."""
    folder = tiny_diffusers_upscaler(tmp_path_factory.mktemp("models") / "tiny")
    options = RestoreOptions(num_inference_steps=2, prompt="a cat")
    return Restorers(model_name=str(folder), options=options, device=torch.device("cpu"))


@pytest.fixture
def needed(clip, guided, monkeypatch):
    facts = probe(clip(frames=4, size=(64, 48)))

    def choose(available, *, is_captioned=False, **changes):
        monkeypatch.setattr(module, "available_memory_bytes", lambda device: available)
        asked = module.replace(guided.options, **changes)
        chosen = module.replace(guided, options=asked, is_captioned=is_captioned)
        return fit_into_memory(chosen, WANTED, facts, "x264", longest_shot=4)

    return choose


def test_guidance_goes_in_one_batch_where_memory_allows(needed):
    chosen, batched = needed(10**12)
    assert (chosen.batches_guidance, chosen.offload) == (True, False)
    short, plain = needed(int((batched - 1) / SHARE))
    assert plain < batched
    assert short == Execution(tile=None, window=4, segment=4, dtype="float32")


def test_no_second_pass_is_counted_between_equal_texts(needed):
    chosen, batched = needed(10**12)
    for texts in ({"prompt": ""}, {"negative_prompt": "a cat"}):
        alone, plain = needed(10**12, **texts)
        assert (alone.batches_guidance, plain < batched) == (False, True)
    assert needed(10**12, prompt="", is_captioned=True) == (chosen, batched)


def test_parts_leave_before_tiles_or_segments_shrink(guided, needed, monkeypatch):
    big = 10**9  # weights that dwarf the activations
    measured = guided.footprint(WANTED)
    monkeypatch.setattr(
        Restorers, "footprint", lambda *_: module.replace(measured, unet=big, decoder=big)
    )
    kept, _ = needed(int(2.5 * big / SHARE))
    lean, bytes_lean = needed(int(1.5 * big / SHARE))
    assert (kept.offload, lean.offload) == (False, True)
    assert (lean.tile, lean.segment) == (kept.tile, kept.segment)
    assert bytes_lean < 1.5 * big
    with pytest.raises(ResourceError):
        needed(int(0.9 * big / SHARE))


@pytest.mark.parametrize("how", [{"batches_guidance": True}, {"offload": True}], ids=str)
def test_every_way_gives_the_same_frames(guided, how):
    clip = moving_clip(3, 8, 8)
    outs = [
        guided(module.replace(WANTED, **changes))(
            clip, range(3), num_anchors=0, num_lookahead=0, state=None
        )[0]
        for changes in ({}, how)
    ]
    torch.testing.assert_close(*outs, rtol=0, atol=1e-4)


def test_a_decoder_at_full_size_gets_no_more_frames_than_its_context_asks_for():
    how = {"streams": False, "at_full_size": True}
    assert [frames_decoded(9, 9, context=context, **how) for context in (0, 1, 2)] == [1, 3, 6]


def test_the_plan_tells_what_was_chosen(clip, options):
    chosen = plan(
        clip(), options=options(guidance_scale=2.0, prompt="face"), run=RunOptions(offload=True)
    )
    assert chosen.offload
    assert "one part of the model in memory at a time" in describe(chosen)
    assert "guidance in one batch" in describe(chosen)


def precisions(monkeypatch, name, model="embedded-x4", *, largest=127, device="cpu"):
    monkeypatch.setattr(module, "largest_int8_weight", lambda: largest)
    monkeypatch.setattr(module, "choose_dtype", lambda name, device: torch.float32)
    restorers = Restorers(model_name=model, options=RestoreOptions(), device=torch.device(device))
    return restorers.precision(name)


def test_the_embedded_model_multiplies_integers_where_that_is_fastest(monkeypatch):
    assert precisions(monkeypatch, "auto") == "int8"
    assert precisions(monkeypatch, "int8") == "int8"
    assert precisions(monkeypatch, "float32") == "float32"
    assert precisions(monkeypatch, "auto", largest=0) == "float32"
    assert precisions(monkeypatch, "auto", device="meta") == "float32"


def test_bfloat16_comes_before_integers(monkeypatch):
    monkeypatch.setattr(module, "largest_int8_weight", lambda: 127)
    monkeypatch.setattr(module, "choose_dtype", lambda name, device: torch.bfloat16)
    restorers = Restorers(
        model_name="embedded-x4", options=RestoreOptions(), device=torch.device("cpu")
    )
    assert restorers.precision("auto") == "bfloat16"


def test_integers_are_refused_where_they_are_not_offered(monkeypatch, guided):
    with pytest.raises(InputError, match="int8"):
        precisions(monkeypatch, "int8", largest=0)
    with pytest.raises(InputError, match="int8"):
        precisions(monkeypatch, "int8", device="meta")
    with pytest.raises(InputError, match="int8"):
        precisions(monkeypatch, "int8", guided.model_name)
    assert precisions(monkeypatch, "auto", guided.model_name) == "float32"


@pytest.mark.skipif(largest_int8_weight() == 0, reason="needs a CPU with VNNI or AVX2 alone")
def test_integers_give_nearly_the_same_video():
    found = {}
    frames = moving_clip(3, 48, 64)
    for dtype in ("float32", "int8"):
        restorers = Restorers(
            model_name="embedded-x4", options=RestoreOptions(), device=torch.device("cpu")
        )
        restorer = restorers(Execution(tile=None, window=None, segment=8, dtype=dtype))
        found[dtype], _ = restorer(frames, range(3), num_anchors=0, num_lookahead=0, state=None)
    error = (found["int8"] - found["float32"]).square().mean()
    assert 0 < error < 10 ** (-5.0) * 4, "less than 50 dB, of a range of 2"


@pytest.mark.parametrize(("offload", "fix"), [(False, "or use --offload$"), (True, "free memory$")])
def test_memory_that_runs_out_while_the_need_is_measured_is_told(
    clip, guided, monkeypatch, offload, fix
):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Restorers, "footprint", fail)
    wanted = module.replace(WANTED, offload=offload)
    with pytest.raises(ResourceError, match=rf"in\.mkv: memory ran out: even .*{fix}"):
        fit_into_memory(guided, wanted, probe(clip(frames=4)), "x264", longest_shot=4)
