"""An approximate decoder says how far it is from the exact one, once a job, and truly."""

import pytest
import torch
from clips import pixels_of
from tiny import tiny_diffusers_upscaler

from legato.errors import InputError, Interrupted
from legato.pipelines.approximation import Approximation
from legato.pipelines.report import read_report, report_path
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.restorers import Restorers
from legato.pipelines.saved_plan import Execution
from legato.pipelines.upscale import upscale

EXECUTION = Execution(tile=None, window=4, segment=4, dtype="float32")
FEW = {"num_inference_steps": 1, "guidance_scale": 1.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of diffusers' layout, whose decoder attends to all places."""
    return str(tiny_diffusers_upscaler(tmp_path_factory.mktemp("models") / "tiny"))


def restored(model, **changes):
    options = RestoreOptions(**FEW, color="none", **changes)
    restorers = Restorers(model_name=model, options=options, device=torch.device("cpu"))
    restorer = restorers(EXECUTION)
    clip = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(3)) * 2 - 1
    frames, _ = restorer(clip, range(1), num_anchors=0, num_lookahead=0, state=None)
    return frames, restorer.approximation


def test_the_distance_is_that_of_the_frames(model):
    frames, approximation = restored(model, approximate=True)
    exact, nothing = restored(model)
    assert nothing is None
    apart = (frames - exact) * 127.5
    assert apart.abs().max() > 0.01
    psnr = 10 * torch.log10(255**2 / apart.square().mean())
    said = f"{psnr:.1f} dB from the exact one, at most {apart.abs().max():.1f} of 255 levels"
    assert said in approximation.sentence


@pytest.mark.parametrize(
    ("apart", "said"),
    [(0.0, "inf dB"), (2 / 255, "48.1 dB from the exact one, at most 1.0 of 255")],
)
def test_a_level_is_a_step_of_eight_bits(apart, said):
    approximation = Approximation()
    approximation.measure(torch.full((1, 3, 3, 4, 4), apart), torch.zeros(1, 3, 3, 4, 4))
    assert said in approximation.sentence
    assert "3 frames decoded both ways" in approximation.sentence


def test_a_job_says_it_once_and_its_report_keeps_it(clip, options, model, tmp_path):
    source, target, told = clip(), tmp_path / "out.mkv", []
    chosen = options(model=model, segment=3, approximate=True, **FEW)

    def listen(event):
        if event.stage == "notice" and "approximate" in event.message:
            told.append(event.message)

    with pytest.raises(Interrupted):
        upscale(source, target, chosen, on_event=listen, stop=iter([False, True]).__next__)
    assert len(told) == 1
    report = upscale(source, target, chosen, on_event=listen)
    assert len(told) == 1
    assert report.segments_resumed == 1
    assert told[0] in report.notices
    assert told[0] in read_report(report_path(target))["notices"]
    upscale(source, tmp_path / "whole.mkv", chosen)
    assert (pixels_of(target) == pixels_of(tmp_path / "whole.mkv")).all()


def test_a_decoder_without_attention_is_refused(clip, options, tmp_path):
    with pytest.raises(InputError, match=r"approximate=True.*no attention.*leave it out"):
        upscale(clip(), tmp_path / "out.mkv", options(approximate=True))
    assert not (tmp_path / "out.mkv").exists()
