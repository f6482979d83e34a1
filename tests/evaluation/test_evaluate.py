import base64
import errno
import json
import os
import re
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from judged import truth_clip, worse_clip, write_images, write_roots

from legato.errors import InputError, ResourceError
from legato.evaluation.evaluate import evaluate
from legato.evaluation.evaluate_options import EvaluateOptions

FILES = ["evaluation.html", "evaluation.json", "evaluation.md", "evaluation.tex"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    told = []
    results, truths = write_roots(folder)
    found = evaluate(results, truths, folder / "out", on_clip=told.append)
    return folder, found, told


@pytest.fixture(scope="module")
def page(judged):
    return (judged[0] / "out" / "evaluation.html").read_text(encoding="utf-8")


def data_of(page, kind):
    return [base64.b64decode(text) for text in re.findall(rf"data:{kind};base64,([^\"]+)", page)]


def test_every_clip_is_measured_and_four_files_written(judged):
    folder, found, told = judged
    assert sorted(path.name for path in (folder / "out").iterdir()) == FILES
    assert [clip.name for clip in found.clips] == told == ["clip_0", "clip_1"]
    assert found.clips[0].means["psnr"] > found.clips[1].means["psnr"]
    data = json.loads((folder / "out" / "evaluation.json").read_text())
    assert data["means"]["psnr"] == found.means["psnr"]


def test_the_page_needs_nothing_from_elsewhere(page):
    assert not re.search(r"https?://|<link|@import|src=\"(?!data:)|url\(", page)
    assert page.count('<input type="range"') == 2
    assert "$" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_page_holds_stills_profiles_and_players(page):
    pictures = [
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        for data in data_of(page, "image/jpeg")
    ]
    assert [p.shape for p in pictures] == 2 * [(64, 96, 3), (64, 96, 3), (240, 192, 3)]
    middle, _, profile = pictures[:3]
    truth = truth_clip()[2][..., ::-1].astype(float)
    assert np.abs(pictures[0] - truth).mean() < 5 < np.abs(pictures[0] - truth[::-1]).mean()
    assert np.abs(middle - pictures[1].astype(float)).mean() > 2  # result and reference differ
    assert np.abs(profile[:60, 96:] - truth_clip()[0][32][None, :, ::-1].astype(float)).mean() < 5


def test_players_are_short_videos(page, tmp_path):
    players = data_of(page, "video/mp4")
    (tmp_path / "p.mp4").write_bytes(players[0])
    with av.open(str(tmp_path / "p.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        shapes = [frame.to_ndarray(format="rgb24").shape for frame in container.decode(video=0)]
    assert shapes == [(64, 192, 3)] * 4
    assert len(players) == 2


def test_names_cannot_break_the_page(tmp_path):
    write_images(tmp_path / "r" / "a<b>&", truth_clip(num_frames=1))
    evaluate(tmp_path / "r", None, tmp_path / "out")
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert "a&lt;b&gt;&amp;" in page
    assert "a<b>" not in page


def test_a_name_that_is_no_text_is_written_with_a_mark(tmp_path):
    write_images(tmp_path / "r", truth_clip(num_frames=1))
    results = (tmp_path / "r").rename(tmp_path / os.fsdecode(b"bad\xff"))
    evaluate(results, None, tmp_path / "out")
    for suffix in ("md", "html", "tex"):
        assert "bad?" in (tmp_path / "out" / f"evaluation.{suffix}").read_text(encoding="utf-8")
    assert "bad\\udcff" in (tmp_path / "out" / "evaluation.json").read_text()


def test_without_references_only_natural_figures_are_taken(judged, tmp_path):
    found = evaluate(judged[0] / "results", out=tmp_path)
    assert list(found.figures) == ["lattice", "own_flicker"]
    assert "clip_0 has no NIQE: it needs 4 of 96x96" in found.notices[0]
    assert 'type="range"' not in (tmp_path / "evaluation.html").read_text(encoding="utf-8")


def test_a_shift_is_told_in_the_table_and_on_the_page(tmp_path):
    truth = truth_clip(size=(128, 96))
    write_images(tmp_path / "r", np.roll(truth, 1, axis=2))
    write_images(tmp_path / "t", truth)
    found = evaluate(tmp_path / "r", tmp_path / "t", tmp_path / "out")
    assert "r (!) lies" in found.notices[0]
    for name in ("evaluation.html", "evaluation.md"):
        assert "(!) lies" in (tmp_path / "out" / name).read_text(encoding="utf-8")


def test_what_an_earlier_run_wrote_stays_where_the_disk_is_full(judged, tmp_path, monkeypatch):
    out = Path(shutil.copytree(judged[0] / "out", tmp_path / "out"))
    before = {path: path.read_bytes() for path in out.iterdir()}

    def fill_the_disk(self, *_, **__):
        self.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write_bytes", "write_text"):
        monkeypatch.setattr(Path, name, fill_the_disk)
    with pytest.raises(ResourceError, match=r"evaluation\.md.*the disk is full"):
        evaluate(judged[0] / "results", None, out, EvaluateOptions(shown=0))
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_what_cannot_be_written_is_refused_before_all_work(judged, tmp_path):
    (tmp_path / "out" / "evaluation.tex").mkdir(parents=True)
    told = []
    with pytest.raises(InputError, match=r"evaluation\.tex is a folder"):
        evaluate(judged[0] / "results", None, tmp_path / "out", on_clip=told.append)
    assert told == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["evaluation.tex"]


def test_sizes_that_do_not_fit_are_refused_before_all_work(tmp_path):
    results, truths = write_roots(tmp_path)
    write_images(results / "clip_9", truth_clip(num_frames=1))
    write_images(truths / "clip_9", truth_clip(num_frames=1, size=(48, 32)))
    told = []
    with pytest.raises(InputError, match="clip clip_9: 96x64 against 48x32"):
        evaluate(results, truths, tmp_path / "out", on_clip=told.append)
    assert told == []
    assert not (tmp_path / "out").exists()


def test_unequal_numbers_of_frames_are_refused_before_all_work(tmp_path):
    write_images(tmp_path / "r", truth_clip())
    write_images(tmp_path / "t", worse_clip(truth_clip(num_frames=3)))
    told = []
    with pytest.raises(InputError, match="clip r: 4 frames against 3"):
        evaluate(tmp_path / "r", tmp_path / "t", tmp_path / "out", on_clip=told.append)
    assert told == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"seed": -1}, {"shown": -1}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="too small"):
        EvaluateOptions(**wrong)
