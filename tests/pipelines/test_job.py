"""What a job does when memory, precision or the disk does not suffice."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from clips import pixels_of

from legato.errors import DecodeError, InputError, ResourceError
from legato.models.inflate import VideoModel
from legato.pipelines import job
from legato.pipelines.events import Event
from legato.pipelines.frame_buffer import FrameBuffer
from legato.pipelines.restore import BrokenOutputError, Restorer
from legato.pipelines.upscale import upscale
from legato.video.frame import Frame


@pytest.fixture
def failing(monkeypatch):
    """Make restoring fail as long as a condition on the restorer holds; count the calls."""

    def make(error, condition=lambda restorer: True):
        calls = []
        real = Restorer.stream

        def stream(self, *args, **kwargs):
            calls.append(self)
            if condition(self):
                raise error
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Restorer, "stream", stream)
        monkeypatch.setattr(
            "legato.pipelines.restorers.Restorers.footprint",
            lambda *_: job_footprint(),
        )
        return calls

    return make


def job_footprint():
    from legato.pipelines.memory import Footprint

    return Footprint(unet=0, decoder=0, denoising=1.0, decoding=1.0)


def test_out_of_memory_takes_smaller_windows_and_says_so(clip, options, tmp_path, failing):
    failing(MemoryError(), lambda restorer: restorer.settings.window > 4)
    report = upscale(clip(), tmp_path / "out.mkv", options())
    assert report.window == 4
    assert len(report.fallbacks) == 1
    assert "memory ran out" in report.fallbacks[0]
    assert report.frames_out == 10


def test_out_of_memory_takes_smaller_tiles_first(clip, options, tmp_path, failing):
    failing(
        torch.OutOfMemoryError("CUDA out of memory"),
        lambda restorer: not 0 < restorer.settings.tile <= 64,
    )
    report = upscale(clip(size=(160, 96), frames=1), tmp_path / "out.mkv", options())
    assert report.tile == 64
    assert report.window is None
    assert len(report.fallbacks) == 2


def test_a_fallback_gives_the_frames_of_the_smaller_setting(clip, options, tmp_path, failing):
    source = clip(frames=6)
    upscale(source, tmp_path / "wanted.mkv", options(window=4))
    failing(MemoryError(), lambda restorer: restorer.settings.window > 4)
    upscale(source, tmp_path / "out.mkv", options())
    assert np.array_equal(pixels_of(tmp_path / "out.mkv"), pixels_of(tmp_path / "wanted.mkv"))


@pytest.mark.parametrize("consistency", ["temporal", "fresco"])
def test_out_of_memory_parts_the_texts_of_guidance_first(
    clip, options, tmp_path, monkeypatch, consistency
):
    source = clip(frames=2, size=(16, 16), sound=False)
    chosen = options(guidance_scale=2.0, prompt="face", consistency=consistency)
    upscale(source, tmp_path / "together.mkv", chosen)
    real, texts = VideoModel.forward, []

    def forward(self, sample, *args, **kwargs):
        texts.append(len(sample))
        if texts.count(2) == 1 and texts[-1] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, sample, *args, **kwargs)

    monkeypatch.setattr(VideoModel, "forward", forward)
    report = upscale(source, tmp_path / "out.mkv", chosen)
    assert texts[texts.index(2) + 1 :] == [1] * (len(texts) - texts.index(2) - 1)
    assert len(report.fallbacks) == 1
    assert "memory ran out" in report.fallbacks[0]
    assert (report.tile, report.window, report.frames_out) == (None, None, 2)
    parted, together = (pixels_of(tmp_path / f"{name}.mkv") for name in ("out", "together"))
    assert np.abs(parted.astype(int) - together).max() <= 1


def test_without_any_smaller_setting_the_job_ends(clip, options, tmp_path, failing):
    calls = failing(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(ResourceError, match="memory ran out in segment 0"):
        upscale(clip(), tmp_path / "out.mkv", options())
    assert [restorer.settings.window for restorer in calls] == [8, 4, 2]
    assert not (tmp_path / "out.mkv").exists()


def test_windows_become_no_smaller_than_two_frames(clip, options, tmp_path, failing):
    calls = failing(MemoryError())
    with pytest.raises(ResourceError, match="memory ran out"):
        upscale(clip(), tmp_path / "out.mkv", options(window=3))
    assert [restorer.settings.window for restorer in calls] == [3, 2]


def test_another_error_is_not_taken_for_one_of_memory(clip, options, tmp_path, failing):
    calls = failing(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        upscale(clip(), tmp_path / "out.mkv", options())
    assert len(calls) == 1


def test_broken_output_is_computed_once_more_in_float32(clip, options, tmp_path, failing, bfloat16):
    broken = BrokenOutputError("NaN in frame 0", why="overflow", fix="use float32")
    failing(broken, lambda restorer: restorer._dtype == torch.bfloat16)
    report = upscale(clip(), tmp_path / "out.mkv", options(), run=bfloat16)
    assert report.dtype == "float32"
    assert len(report.fallbacks) == 1
    assert report.frames_out == 10


def test_memory_that_runs_out_while_decoding_is_noticed_too(clip, options, tmp_path, monkeypatch):
    """The first chunk comes when the encoder is open already."""
    real = Restorer.stream

    def stream(self, *args, **kwargs):
        chunks, carried = real(self, *args, **kwargs)
        return (fail() if self.settings.window > 4 else chunk for chunk in chunks), carried

    def fail():
        raise MemoryError

    monkeypatch.setattr(
        "legato.pipelines.restorers.Restorers.footprint", lambda *_: job_footprint()
    )
    monkeypatch.setattr(Restorer, "stream", stream)
    report = upscale(clip(), tmp_path / "out.mkv", options())
    assert report.window == 4
    assert report.frames_out == 10


def test_output_that_stays_broken_is_an_error(clip, options, tmp_path, failing, bfloat16):
    calls = failing(BrokenOutputError("NaN in frame 0", why="overflow", fix="none"))
    with pytest.raises(ResourceError, match="NaN"):
        upscale(clip(), tmp_path / "out.mkv", options(), run=bfloat16)
    assert [restorer._dtype for restorer in calls] == [torch.bfloat16, torch.float32]
    assert not (tmp_path / "out.mkv").exists()


@pytest.fixture
def bfloat16():
    from legato.pipelines.run_options import RunOptions

    return RunOptions(dtype="bfloat16")


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, ResourceError, "disk is full"),
        (errno.EIO, ResourceError, r"out\.mkv: its disk cannot be read or written"),
        (errno.EROFS, InputError, r"out\.mkv: its disk is read-only"),
    ],
)
def test_a_disk_that_fails_keeps_finished_segments(
    clip, options, tmp_path, monkeypatch, number, kind, said
):
    source, target = clip(), tmp_path / "out.mkv"
    real = job.write_picture
    written = []

    def write(writer, frame, picture):
        written.append(frame.pts)
        if len(written) > 6:
            raise OSError(number, os.strerror(number))
        real(writer, frame, picture)

    monkeypatch.setattr(job, "write_picture", write)
    with pytest.raises(kind, match=f"{said}.*repeat the command"):
        upscale(source, target, options())
    assert not target.exists()
    work = tmp_path / ".out.mkv.legato"
    assert [path.name for path in sorted(work.glob("segment_*"))] == ["segment_000000.mp4"]
    assert json.loads((work / "plan.json").read_text())["survey"]["shots"] == [0]
    monkeypatch.setattr(job, "write_picture", real)
    report = upscale(source, target, options())
    assert report.segments_resumed == 1
    assert report.frames_out == 10


def test_progress_never_goes_back_and_ends_at_the_total(clip, options, tmp_path):
    events: list[Event] = []
    upscale(clip(), tmp_path / "out.mkv", options(), on_event=events.append)
    done = [event.done for event in events if event.stage == "restore"]
    assert done == sorted(done)
    assert done[-1] == 10
    assert {event.total for event in events if event.stage == "restore"} == {10}
    stages = list(dict.fromkeys(event.stage for event in events if event.stage != "notice"))
    assert stages == ["load", "survey", "restore", "join", "verify"]


def frames_at(*pts):
    from fractions import Fraction

    pixels = np.zeros((2, 2, 3), np.uint8)
    return iter([Frame(pixels=pixels, pts=p, time_base=Fraction(1, 30)) for p in pts])


def test_a_buffer_reads_every_frame_once_whatever_overlaps():
    buffer = FrameBuffer(frames_at(*range(10)), range(10), first=0)
    assert [f.pts for f in buffer.take(0, 5)] == [0, 1, 2, 3, 4]
    assert [f.pts for f in buffer.take(2, 7)] == [2, 3, 4, 5, 6]
    assert [f.pts for f in buffer.take(8, 10)] == [8, 9]


def test_a_source_that_changed_is_noticed():
    buffer = FrameBuffer(frames_at(0, 1, 5), [0, 1, 2], first=0)
    with pytest.raises(DecodeError, match="not there any more"):
        buffer.take(0, 3)
    buffer = FrameBuffer(frames_at(0, 1), [0, 1, 2], first=0)
    with pytest.raises(DecodeError, match="nothing was found"):
        buffer.take(0, 3)
