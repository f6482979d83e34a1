import errno
import json
import os
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import pixels_of, texture, times_of, write_clip

import legato
from legato.errors import InputError, ModelError, ResourceError
from legato.pipelines import prepare
from legato.pipelines.output import require_report
from legato.pipelines.report import Report, report_path
from legato.pipelines.run_options import RunOptions
from legato.pipelines.upscale import upscale
from legato.pipelines.workfolder import write_json
from legato.video.conservation import verify
from legato.video.probe import probe


def test_the_whole_input_is_in_the_output(clip, options, tmp_path):
    source, target = clip(cut=6), tmp_path / "out.mkv"
    report = upscale(source, target, options())
    assert verify(source, target).differences == ()
    assert report.differences == []
    assert pixels_of(target).shape == (10, 96, 128, 3)
    assert (report.frames_in, report.frames_out) == (10, 10)
    assert report.size_out == (128, 96)
    with av.open(str(target)) as container:
        assert len(container.streams.audio) == 1


def test_only_the_output_and_its_report_are_left(clip, options, tmp_path):
    source = clip()
    upscale(source, tmp_path / "out.mkv", options())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in.mkv",
        "out.mkv",
        "out.mkv.legato.json",
    ]


def test_the_report_reads_back_and_repeats_the_options(clip, options, tmp_path):
    target = tmp_path / "out.mkv"
    chosen = options(seed=7, end="0.2")
    report = upscale(clip(), target, chosen)
    stored = Report.from_json(json.loads(report_path(target).read_text()))
    assert stored == report
    assert legato.UpscaleOptions.from_json(stored.options) == chosen
    assert stored.range == {"start": "0", "end": "1/5"}


@pytest.mark.parametrize("name", ["in.mkv", "out.mkv", "notes.txt"])
def test_a_report_replaces_nothing_but_a_report(clip, options, tmp_path, name):
    source, chosen = clip(), tmp_path / name
    (tmp_path / "notes.txt").write_text("mine")
    before = chosen.read_bytes() if chosen.exists() else None
    with pytest.raises(InputError, match="the report cannot be written"):
        upscale(source, tmp_path / "out.mkv", options(), run=RunOptions(report=chosen))
    assert (chosen.read_bytes() if chosen.exists() else None) == before


def test_a_report_is_refused_before_the_work_where_it_may_not_be_written(
    clip, options, tmp_path, monkeypatch
):
    closed = tmp_path / "closed"
    closed.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != closed)  # root may write there
    with pytest.raises(InputError, match=r"report cannot be written.*may not be written"):
        upscale(clip(), tmp_path / "out.mkv", options(), run=RunOptions(report=closed / "r.json"))
    assert not (tmp_path / "out.mkv").exists()


def test_a_report_is_refused_before_the_work_where_no_file_can_be_made(
    clip, options, tmp_path, monkeypatch
):
    def refuse(path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(Path, "touch", refuse)  # as in /proc, whatever its permissions say
    with pytest.raises(InputError, match=r"report cannot be written.*--report"):
        require_report(tmp_path / "r.json", tmp_path / "out.mkv")
    with pytest.raises(InputError, match=r"^.*out\.mkv: its folder takes no file.*for the output"):
        upscale(clip(), tmp_path / "out.mkv", options())


def test_where_the_report_cannot_be_written_the_output_stays_and_nothing_is_left(
    clip, options, tmp_path, monkeypatch, plain
):
    source, target, path = clip(), tmp_path / "out.mkv", tmp_path / "r.json"

    def fill_the_disk(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(
            "legato.pipelines.report.write_json",
            lambda *saved: (patch.setattr(Path, "write_bytes", fill_the_disk), write_json(*saved)),
        )
        with pytest.raises(ResourceError, match=r"r\.json: the disk is full"):
            upscale(source, target, options(), run=RunOptions(report=path))
    assert np.array_equal(pixels_of(target), plain)
    assert {file.name for file in tmp_path.iterdir()} == {source.name, target.name}


def test_a_report_elsewhere_takes_the_place_of_the_one_beside_the_output(clip, options, tmp_path):
    source, target = clip(), tmp_path / "out.mkv"
    upscale(source, target, options(start="0.1", end="0.2"))
    upscale(source, target, options(), run=RunOptions(report=tmp_path / "r.json"))
    assert not report_path(target).exists()
    assert verify(source, target).differences == ()


def test_a_missing_output_folder_is_named(clip, options, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        upscale(clip(), tmp_path / "nowhere" / "out.mkv", options())


def test_the_report_goes_where_it_is_wanted(clip, options, tmp_path):
    target, path = tmp_path / "out.mkv", tmp_path / "r.json"
    upscale(clip(), target, options(), run=RunOptions(report=path))
    assert path.exists()
    assert not report_path(target).exists()


def test_the_same_again_gives_the_same_frames(clip, options, tmp_path, plain):
    upscale(clip(), tmp_path / "out.mkv", options())
    assert np.array_equal(pixels_of(tmp_path / "out.mkv"), plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"num_inference_steps": 2},
        {"noise_level": 100},
        {"prompt": "face"},
        {"prompt": "face", "negative_prompt": "night", "guidance_scale": 3.0},
        {"consistency": "temporal"},
        {"consistency": "none"},
        {"propagate": "none"},
        {"color": "adain"},
        {"color": "none"},
        {"fidelity": 1.0},
        {"seed": 1},
        {"tile": 16},
        {"window": 4},
        {"compat": "reference", "segment": 32},
        {"codec": "x264"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_flag_changes_the_picture(clip, options, tmp_path, changes, plain):
    upscale(clip(), tmp_path / "out.mkv", options(**changes))
    assert not np.array_equal(pixels_of(tmp_path / "out.mkv"), plain)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"solver": "dpm++"}, {"propagate": "late"}], ids=str)
def test_flags_of_several_steps_change_the_picture(clip, options, tmp_path, changes):
    source, steps = clip(frames=4), {"num_inference_steps": 4}
    upscale(source, tmp_path / "plain.mkv", options(**steps))
    upscale(source, tmp_path / "out.mkv", options(**steps, **changes))
    plain, made = (pixels_of(tmp_path / f"{name}.mkv") for name in ("plain", "out"))
    assert not np.array_equal(made, plain)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_model):
    """Frames of the same clip with no flag at all."""
    folder = tmp_path_factory.mktemp("plain")
    write_clip(folder / "in.mkv", texture(10), sound=False)
    chosen = legato.UpscaleOptions(
        model=tiny_model, segment=4, output=legato.CodecOptions(codec="ffv1")
    )
    upscale(folder / "in.mkv", folder / "out.mkv", chosen)
    return pixels_of(folder / "out.mkv")


def test_the_length_of_segments_leaves_the_frames_as_they_are(clip, options, tmp_path, plain):
    report = upscale(clip(), tmp_path / "out.mkv", options(segment=3))
    assert report.segments == 4
    assert np.array_equal(pixels_of(tmp_path / "out.mkv"), plain)


def test_a_lower_crf_makes_a_larger_file(clip, options, tmp_path):
    source = clip(frames=4)
    for crf in (5, 40):
        upscale(source, tmp_path / f"{crf}.mkv", options(codec="x264", crf=crf))
    assert (tmp_path / "5.mkv").stat().st_size > (tmp_path / "40.mkv").stat().st_size


@pytest.mark.parametrize(
    ("changes", "size"),
    [({"scale": 1.5}, (36, 48)), ({"scale": 5.0}, (120, 160)), ({"height": 50}, (50, 67))],
)
def test_any_size_is_exact(clip, options, tmp_path, changes, size):
    upscale(clip(frames=3), tmp_path / "out.mkv", options(**changes))
    assert pixels_of(tmp_path / "out.mkv").shape[1:3] == size


def test_a_range_holds_the_frames_from_start_to_before_end(clip, options, tmp_path):
    source, target = clip(), tmp_path / "out.mkv"
    times = times_of(source)
    start, end = times[3] - Fraction(1, 1000), times[7]
    chosen = options(start=f"{float(start):.4f}", end=f"{float(end) - 0.001:.4f}")
    report = upscale(source, target, chosen)
    assert report.frames_out == 4
    assert times_of(target)[0] == 0


def test_a_frame_of_a_range_has_the_noise_of_the_whole(clip, options, tmp_path):
    """Frames are independent without consistency: then only the noise tells their time."""
    source = clip()
    still = options(consistency="none")
    upscale(source, tmp_path / "whole.mkv", still)
    upscale(source, tmp_path / "part.mkv", replace(still, start="0.1"))
    whole, part = pixels_of(tmp_path / "whole.mkv"), pixels_of(tmp_path / "part.mkv")
    assert 0 < len(part) < 10
    assert np.array_equal(whole[-len(part) :], part)


def test_no_frame_is_influenced_by_the_shot_before(clip, options, tmp_path):
    source = clip(cut=6, frames=10)
    assert upscale(source, tmp_path / "whole.mkv", options()).shots == 2
    start = float(times_of(source)[6]) - 0.01
    upscale(source, tmp_path / "part.mkv", options(start=f"{start:.4f}"))
    whole, part = pixels_of(tmp_path / "whole.mkv"), pixels_of(tmp_path / "part.mkv")
    assert len(part) == 4
    assert np.array_equal(whole[6:], part)


def test_images_become_frames_and_frames_images(options, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    import cv2

    for k, pixels in enumerate(texture(3)):
        cv2.imwrite(str(folder / f"{k}.png"), pixels[..., ::-1])
    report = upscale(folder, tmp_path / "out", options(codec="png", start="1"))
    assert pixels_of(tmp_path / "out").shape == (3, 96, 128, 3)
    assert any("ignored" in sentence for sentence in report.notices)


def test_an_image_becomes_an_image(options, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), texture(1)[0])
    upscale(tmp_path / "a.png", tmp_path / "b.png", options(codec="auto"))
    assert cv2.imread(str(tmp_path / "b.png")).shape == (96, 128, 3)


def test_a_transparent_image_stays_so(options, tmp_path):
    import cv2

    pixels = np.dstack([texture(1)[0], np.full((24, 32), 99, np.uint8)])
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    report = upscale(tmp_path / "a.png", tmp_path / "b.png", options(codec="auto"))
    result = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)
    assert (result[..., 3] == 99).all()
    assert any("opacity" in sentence for sentence in report.notices)


def test_interlaced_frames_are_kept_only_if_asked_for(options, tmp_path):
    source = tmp_path / "in.mpg"
    with av.open(str(source), "w") as container:
        video = container.add_stream("mpeg2video", rate=25, options={"field_order": "tt"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.flags |= 0x20000000 | 0x00040000  # interlaced motion and transform
        for pixels in texture(3, (64, 48)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
    assert probe(source).interlaced != "progressive"
    usual = upscale(source, tmp_path / "a.mkv", options())
    kept = upscale(source, tmp_path / "b.mkv", options(keep_interlaced=True))
    assert usual.frames_out == kept.frames_out == 3
    assert not np.array_equal(pixels_of(tmp_path / "a.mkv"), pixels_of(tmp_path / "b.mkv"))
    assert any("kept so; the output is marked progressive" in text for text in kept.notices)
    assert probe(tmp_path / "b.mkv").interlaced == "progressive"


class TestRefusals:
    """Nothing is written and nothing is left behind."""

    @pytest.fixture(autouse=True)
    def _nothing_is_left(self, tmp_path):
        yield
        assert not list(tmp_path.glob(".*")), "a work folder was left"
        assert not list(tmp_path.glob("out*"))

    def test_input_and_output_are_the_same(self, clip, options, tmp_path):
        source = clip()
        before = source.read_bytes()
        with pytest.raises(InputError, match="both input and output"):
            upscale(source, source, options())
        (tmp_path / "link.mkv").symlink_to(source)
        with pytest.raises(InputError, match="both input and output"):
            upscale(source, tmp_path / "link.mkv", options())
        assert source.read_bytes() == before

    def test_the_output_folder_is_missing(self, clip, options, tmp_path):
        with pytest.raises(InputError, match="no such folder"):
            upscale(clip(), tmp_path / "no" / "out.mkv", options())

    def test_the_output_is_a_folder(self, clip, options, tmp_path):
        (tmp_path / "a.mkv").mkdir()
        with pytest.raises(InputError):
            upscale(clip(), tmp_path / "a.mkv", options())

    def test_the_output_lies_in_the_input(self, options, tmp_path):
        folder = tmp_path / "frames"
        folder.mkdir()
        import cv2

        cv2.imwrite(str(folder / "0.png"), texture(1)[0])
        with pytest.raises(InputError, match="lies in the input folder"):
            upscale(folder, folder / "out.mkv", options())

    def test_a_folder_of_images_replaces_nothing(self, clip, options, tmp_path):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine.txt").touch()
        with pytest.raises(InputError, match="is not empty"):
            upscale(clip(), tmp_path / "full", options(codec="png"))

    def test_the_container_is_unknown(self, clip, options, tmp_path):
        with pytest.raises(InputError, match="xyz"):
            upscale(clip(), tmp_path / "out.xyz", options())

    def test_the_codec_does_not_fit(self, clip, options, tmp_path):
        with pytest.raises(InputError, match="webm"):
            upscale(clip(), tmp_path / "out.webm", options(codec="x264"))

    def test_nothing_is_in_range(self, clip, options, tmp_path):
        with pytest.raises(InputError, match="no frame in the chosen range"):
            upscale(clip(), tmp_path / "out.mkv", options(start="100"))

    def test_the_model_is_missing(self, clip, options, tmp_path):
        with pytest.raises(ModelError):
            upscale(clip(), tmp_path / "out.mkv", options(model=str(tmp_path / "none")))

    def test_the_model_is_damaged(self, clip, options, tmp_path, tiny_model):
        broken = shutil.copytree(tiny_model, tmp_path / "broken")
        weights = next(broken.rglob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-9])
        with pytest.raises(ModelError):
            upscale(clip(), tmp_path / "out.mkv", options(model=str(broken)))

    def test_a_word_is_unknown(self, clip, options, tmp_path):
        with pytest.raises(InputError, match="zyzzyva"):
            upscale(clip(), tmp_path / "out.mkv", options(prompt="zyzzyva"))

    def test_the_disk_is_too_small(self, clip, options, tmp_path, monkeypatch):
        monkeypatch.setattr(prepare, "bytes_on_disk", lambda *_, **__: 10**18)
        with pytest.raises(ResourceError, match="of disk space needed"):
            upscale(clip(), tmp_path / "out.mkv", options())

    def test_memory_is_too_small(self, clip, options, tmp_path, monkeypatch):
        from legato.pipelines import restorers

        monkeypatch.setattr(restorers, "available_memory_bytes", lambda _: 10**5)
        with pytest.raises(ResourceError, match="of memory needed"):
            upscale(clip(), tmp_path / "out.mkv", options())

    def test_a_bad_device(self, clip, options, tmp_path):
        with pytest.raises(InputError, match="device"):
            upscale(clip(), tmp_path / "out.mkv", options(), run=RunOptions(device="abacus"))


def test_short_memory_makes_tiles(clip, options, tmp_path, monkeypatch):
    from legato.pipelines import restorers

    source = clip(size=(160, 96), frames=1)
    full = restorers.fit_into_memory
    needed = []

    def spy(*args, **kwargs):
        execution, memory = full(*args, **kwargs)
        needed.append((execution, memory))
        return execution, memory

    monkeypatch.setattr(prepare, "fit_into_memory", spy)
    upscale(source, tmp_path / "b.mkv", options())
    monkeypatch.setattr(
        restorers, "available_memory_bytes", lambda _: int(0.95 * needed[0][1] / 0.7)
    )
    report = upscale(source, tmp_path / "c.mkv", options())
    assert report.tile in (64, 128)
    assert any("tiles" in sentence for sentence in report.notices)
