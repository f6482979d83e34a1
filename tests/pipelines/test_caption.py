"""`--caption`: each shot is upscaled with a caption of its sharpest frame as its prompt."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from clips import SIZE, pixels_of, texture, write_clip
from hypothesis import given
from hypothesis import strategies as st
from tiny_captioner import tiny_captioner

from legato.apps import cli
from legato.errors import InputError, Interrupted
from legato.models.captioner import Captioner
from legato.models.text import WordEncoder
from legato.pipelines.caption import sharpest_frames, shown
from legato.pipelines.forecast import plan
from legato.pipelines.report import report_path
from legato.pipelines.survey import Survey
from legato.pipelines.upscale import upscale
from legato.pipelines.workfolder import WorkFolder
from legato.video.probe import probe

WORDS = ["dog", "water", "night", "face", "snow", "zeppelin"]  # the last: not in the vocabulary
FRAMES, CUT = 9, 6


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return str(tiny_captioner(tmp_path_factory.mktemp("captioner") / "blip", WORDS))


@pytest.fixture
def source(clip):
    return clip(frames=FRAMES, cut=CUT)


def surveyed(detail, shots):
    return Survey(
        pts=tuple(range(len(detail))),
        shots=tuple(shots),
        detail=tuple(detail),
        num_repeated=0,
        start=None,
        end=None,
    )


@given(st.data(), st.lists(st.floats(0, 255), min_size=1, max_size=30))
def test_one_frame_of_every_shot_none_sharper(data, detail):
    cuts = data.draw(st.sets(st.integers(1, len(detail)))) - {len(detail)}
    shots = [0, *sorted(cuts)]
    chosen = sharpest_frames(surveyed(detail, shots))
    assert len(chosen) == len(shots)
    for index, first, stop in zip(chosen, shots, [*shots[1:], len(detail)], strict=True):
        assert first <= index < stop
        assert detail[index] == max(detail[first:stop])
        assert index == first + detail[first:stop].index(detail[index])


def test_a_picture_is_captioned_as_it_is_shown(source):
    turned = replace(probe(source), display_matrix=(0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30))
    picture = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3) << 8
    assert np.array_equal(shown(picture, turned), np.rot90((picture >> 8).astype(np.uint8)))


def test_every_shot_gets_its_caption_and_the_frames_that_this_prompt_gives(
    source, options, tmp_path, captioner
):
    report = upscale(source, tmp_path / "out.mkv", options(caption=captioner, segment=3))
    frames = texture(FRAMES, SIZE, CUT)
    captions = [Captioner(captioner, torch.device("cpu"))(frames[k]) for k in (0, CUT)]
    assert len(report.prompts) == report.shots == 2
    assert len(set(report.prompts)) == 2
    made = pixels_of(tmp_path / "out.mkv")
    upscale(source, tmp_path / "second.mkv", options(prompt=report.prompts[1], segment=3))
    second = pixels_of(tmp_path / "second.mkv")
    assert np.array_equal(made[CUT:], second[CUT:])
    assert not np.array_equal(made[:CUT], second[:CUT])
    words = WordEncoder(4)
    assert [words.as_prompt(caption) for caption in captions] == report.prompts
    saved = json.loads(report_path(tmp_path / "out.mkv").read_text())
    assert saved["prompts"] == report.prompts


@pytest.mark.slow
def test_a_resumed_run_uses_the_prompts_of_the_plan(source, options, tmp_path, captioner):
    model = shutil.copytree(captioner, tmp_path / "blip")
    target, chosen = tmp_path / "out.mkv", options(caption=str(model), segment=3)
    whole = upscale(source, tmp_path / "whole.mkv", chosen)
    calls = iter([False, True])
    with pytest.raises(Interrupted):
        upscale(source, target, chosen, stop=lambda: next(calls))
    shutil.rmtree(model)
    report = upscale(source, target, chosen)
    assert (report.prompts, report.segments_resumed) == (whole.prompts, 1)
    assert np.array_equal(pixels_of(target), pixels_of(tmp_path / "whole.mkv"))


def test_captions_without_a_known_word_are_said_to_leave_prompts_empty(clip, options, tmp_path):
    model = tiny_captioner(tmp_path / "blip", ["zeppelin", "quaver"])
    source = clip(frames=2, sound=False)
    report = upscale(source, tmp_path / "out.mkv", options(caption=str(model)))
    assert report.prompts == [""]
    assert any("no caption has a word" in notice for notice in report.notices)


def test_a_forecast_says_that_captions_come_on_top(clip, options, captioner):
    found = plan(clip(frames=2, sound=False), options=options(caption=captioner))
    assert "captioning 1 shot comes on top of the time" in found.notices


def test_a_prompt_beside_captions_is_refused(options, captioner):
    with pytest.raises(InputError, match=r"prompt='night' and caption=.*give one of them"):
        options(caption=captioner, prompt="night")


def test_a_bad_caption_model_is_one_line_and_leaves_nothing(clip, tmp_path, tiny_model, capsys):
    source, target = clip(frames=2, sound=False), tmp_path / "out.mkv"
    arguments = ["--model", tiny_model, "--caption", str(tmp_path)]
    assert cli.main(["upscale", str(source), str(target), *arguments]) == 3
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert f"caption model '{tmp_path}' cannot be loaded" in errors[0]
    assert not WorkFolder(target).path.exists()


def test_a_shot_has_its_own_prompt_though_its_first_segment_is_finished_already(
    options, tmp_path, captioner
):
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_clip(source, texture(48, SIZE, 6), sound=False)  # longer than windows that are known
    chosen = options(caption=captioner, segment=3)
    upscale(source, tmp_path / "whole.mkv", chosen)

    def finished():
        return WorkFolder(target).path.glob("segment_*")

    with pytest.raises(Interrupted):  # the second shot begins with the third segment
        upscale(source, target, chosen, stop=lambda: len(list(finished())) == 3)
    for lost in sorted(finished())[:2]:
        lost.unlink()
    assert upscale(source, target, chosen).segments_resumed == 1
    assert np.array_equal(pixels_of(target), pixels_of(tmp_path / "whole.mkv"))
