"""What the page shows of jobs."""

from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from legato.apps.page import UNSEEN, described, listed, news
from legato.apps.plan import PlanCommand
from legato.apps.queue import Job
from legato.apps.upscale import UpscaleCommand
from legato.video.images import encode_image, read_image


def upscaling(target, **changes):
    return UpscaleCommand(source=target.parent / "in.mkv", target=target, **changes)


def test_only_what_changed_is_sent_anew(tmp_path):
    command = upscaling(tmp_path / "out.mp4")
    job = Job(number=1, title="out.mp4", command=command)
    first = news([job], None, UNSEEN)
    assert first[1].value == 1  # a new job is looked at
    assert "out.mp4" in first[0]
    again = news([job], 1, first[-1])
    assert again[:4] == [gr.skip()] * 4
    job.text = "upscaling 1/9 frames"
    moved = news([job], 1, again[-1])
    assert "upscaling 1/9 frames" in moved[0]
    assert moved[1:4] == [gr.skip()] * 3
    job.state, job.text = "failed", "no disk"
    assert "no disk" in news([job], 1, moved[-1])[2]
    assert news([], None, UNSEEN)[:4] == [listed([]), gr.skip(), gr.skip(), gr.skip()]


def test_names_and_words_are_no_html(tmp_path):
    job = Job(number=1, title="<b>.mp4", command=upscaling(tmp_path / "<b>.mp4"))
    job.state, job.text, job.notices = "failed", "<i>", ["<script>"]
    for said in (listed([job]), described(job)):
        assert "<i>" not in said
        assert "<script>" not in said
        assert "<b>.mp4" not in said


@pytest.mark.parametrize(
    ("name", "shown"), [("a b.mp4", "<video"), ("a b.png", "<img"), ("a b.mkv", "<a href")]
)
def test_a_result_is_shown_as_a_browser_can(name, shown, tmp_path):
    target = tmp_path / name
    job = Job(number=1, title=name, command=upscaling(target), state="done")
    assert shown not in described(job)  # it is gone
    target.write_bytes(b"")
    assert shown in described(job)
    assert "/a%20b." in described(job)
    job.state = "running"
    assert shown not in described(job)
    assert described(None) == ""


def test_a_previews_halves_lie_over_one_another(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    command = upscaling(tmp_path / "out.mp4", preview=True)
    picture = np.zeros((4, 12, 3), np.uint16)
    picture[:, 6:] = 65535
    (tmp_path / "out.mp4.preview.png").write_bytes(encode_image(picture, None, ".png"))
    job = Job(number=1, title="out_preview.mp4", command=command, state="done")
    slider = news([job], 1, UNSEEN)[3]
    before, after = (read_image(Path(half["path"]))[0] for half in slider.value)
    assert slider.visible
    assert (before.max(), after.min()) == (0, 255)
    (tmp_path / "out.mp4.preview.png").unlink()
    assert not news([job], 1, UNSEEN)[3].visible
    plan = Job(number=2, title="p", command=PlanCommand(source=tmp_path), state="done", text="a\nb")
    assert not news([job, plan], 1, UNSEEN)[3].visible
    assert "a\nb" in described(plan)
