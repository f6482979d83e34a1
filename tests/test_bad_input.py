"""Every awkward input and event, with what is promised for it.

The files are those of the shared folder `data/odd`; the events are what users of such tools report.
What works gives an output whose frames, times, size and streams are verified;
what does not work ends with one line, the exit code of its kind, and nothing left behind.
"""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from clips import pixels_of, texture, tiny_model, write_clip
from tiny import tiny_diffusers_upscaler, tiny_unet, tiny_upscaler_folder, tiny_video_unet

from legato.apps import cli
from legato.pipelines import job, prepare
from legato.pipelines.lock import Lock
from legato.pipelines.report import Report, report_path
from legato.pipelines.workfolder import WorkFolder
from legato.video.images import encode_image
from legato.video.probe import probe

__all__ = ["tiny_model"]

SEGMENT = "24"


@dataclass(frozen=True)
class Works:
    """The command gives an output."""

    frames: int
    """In and out."""
    size: tuple[int, int] = (640, 384)
    """Width and height of the output's stored frames."""
    target: str = "out.mkv"
    notice: str = ""
    """Part of a sentence on standard error."""
    flags: tuple[str, ...] = ()
    depth: int = 8
    repeated: bool = False
    """Whether damaged frames are counted."""


@dataclass(frozen=True)
class Fails:
    """The command ends with one line and leaves nothing."""

    says: str
    code: int = 2
    target: str = "out.mp4"


EXPECTED: dict[str, Works | Fails] = {
    "01_truncated_no_moov.mp4": Fails("truncated MP4"),
    "03_zero_frames.mp4": Fails("no frame"),
    "04_vfr.mp4": Works(22, target="out.mp4"),
    "05_rotate90.mp4": Works(24, target="out.mp4"),
    "06_hevc_10bit.mp4": Works(24, depth=10, flags=("--codec", "x265")),
    "08_h264_yuv444.mp4": Works(24),
    "09_h264_gray.mp4": Works(24),
    "10_odd_35x51.webm": Works(24, size=(140, 204), target="out.webm"),
    "12_interlaced_mpeg2.mpg": Works(
        24, size=(640, 480), notice="interlaced", flags=("--scale", "2")
    ),
    "14_audio_aac.mp4": Works(24, target="out.mp4"),
    "15_audio_opus.webm": Works(24, target="out.webm", size=(160, 96), flags=("--scale", "1")),
    "17_subtitles.mkv": Works(24),
    "19_vp9_alpha.webm": Works(24, notice="opacity", flags=("--codec", "ffv1")),
    "20_anim.gif": Works(8, target="out.gif", size=(160, 96), flags=("--scale", "1")),
    "21_single.png": Works(1, target="out.png"),
    "23_png_sequence": Works(5, target="out"),
    "24_png_sequence_gap": Works(6, target="out.mp4"),
    "26_text_as_video.mp4": Fails("text file"),
    "27_empty.mp4": Fails("empty"),
    "28_one_frame.mp4": Works(1, target="out.mp4"),
    "29_two_frames.mp4": Works(2, target="out.mp4"),
    "30_sar_2x1.mp4": Works(24, target="out.mp4"),
    "32_audio_only.mp4": Fails("no video stream"),
    "33_cover_art.m4a": Fails("cover art"),
    "35_bt601.mp4": Works(24, target="out.mp4"),
    "36_prores422_10bit.mov": Works(8, target="out.mov", depth=10, flags=("--codec", "prores")),
    "37_raw_stream.h264": Works(24, target="out.mp4"),
    "39_name with spaces ünï 日本.mp4": Works(24, target="out ü $HOME '日本'.mp4"),
    "40_mkv_named.mp4": Works(24, target="out.mp4"),
    "42_corrupt_middle.mp4": Works(24, notice="could not be decoded", repeated=True),
    "43_av1_10bit.mp4": Works(8, target="out.mp4", depth=10, flags=("--codec", "av1")),
    "45_rgb48.png": Works(1, target="out.png", depth=16),
    "46_rgba.png": Works(1, target="out.png", notice="opacity"),
    "48_real_corrupted.mp4": Works(
        2, size=(320, 180), notice="no colour matrix", flags=("--scale", "0.25", "--end", "0.2")
    ),
    "51_real_vfr_screen.mp4": Works(
        1,
        size=(757, 347),
        flags=("--scale", "0.25", "--end", "0.05", "--consistency", "none"),
    ),
    "53_real_hlg10.mp4": Works(
        1,
        size=(480, 270),
        notice="dynamic range",
        depth=10,
        flags=("--scale", "0.25", "--end", "0.02", "--codec", "x265", "--consistency", "none"),
    ),
}


def run(capsys, *arguments):
    """Run the command line in this process; return its exit code and the lines it complained in."""
    code = cli.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.err


def left_in(folder: Path, *names: str) -> list[str]:
    """Return what lies in a folder besides the named."""
    return sorted(path.name for path in folder.iterdir() if path.name not in names)


@pytest.fixture(scope="module")
def model_for_large_frames(tmp_path_factory):
    """A model with no attention over pixels: its time grows no faster than the frames."""
    spatial = tiny_unet(
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type=None,
        norm_num_groups=4,
    )
    folder = tmp_path_factory.mktemp("model") / "large-frames"
    return str(tiny_upscaler_folder(folder, unet=tiny_video_unet(spatial=spatial)))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_awkward_files(name, shared, tmp_path, capsys, model_for_large_frames):
    expected, source = EXPECTED[name], shared / "data" / "odd" / name
    target = tmp_path / expected.target
    flags = [] if isinstance(expected, Fails) else expected.flags
    code, said = run(
        capsys,
        "upscale",
        source,
        target,
        "--model",
        model_for_large_frames,
        "--segment",
        SEGMENT,
        "--consistency",
        "temporal",
        *flags,
    )
    if isinstance(expected, Fails):
        assert code == expected.code
        assert said.count("\n") == 1, said
        assert expected.says in said
        assert left_in(tmp_path) == []
        return
    assert code == 0, said
    assert expected.notice in said
    facts = probe(target)
    assert (facts.width, facts.height) == expected.size
    frames = pixels_of(target)
    assert len(frames) == expected.frames
    assert facts.bit_depth == expected.depth
    report = Report.from_json(json.loads(report_path(target).read_text()))
    assert (report.frames_repeated > 0) == expected.repeated
    assert sorted(left_in(tmp_path)) == sorted([target.name, f"{target.name}.legato.json"])
    assert run(capsys, "verify", source, target)[0] == 0


def test_every_awkward_file_has_an_expectation(shared):
    files = {path.name for path in (shared / "data" / "odd").iterdir()} - {"MANIFEST.csv"}
    assert files == set(EXPECTED)


@pytest.fixture
def source(tmp_path):
    """A healthy clip."""
    path = tmp_path / "in.mkv"
    write_clip(path, texture(3), sound=True)
    return path


@pytest.fixture
def refused(capsys, tmp_path, tiny_model):
    """Run the command, and expect one line, an exit code, and nothing new on the disk."""

    def check(source, target, *flags, code, says):
        before = sorted(path.name for path in tmp_path.iterdir())
        contents = source.read_bytes() if source.is_file() else None
        found, said = run(
            capsys, "upscale", source, target, "--quiet", "--model", tiny_model, *flags
        )
        errors = [line for line in said.splitlines() if not line.startswith("note: ")]
        assert (found, len(errors)) == (code, 1), said
        assert says in errors[0]
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert contents is None or source.read_bytes() == contents

    return check


class TestEvents:
    """Input equal to output, missing things, absurd sizes, full disks, damaged models."""

    def test_a_missing_input(self, refused, tmp_path):
        refused(tmp_path / "no.mp4", tmp_path / "out.mp4", code=2, says="no such file")

    @pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
    def test_a_pipe(self, refused, tmp_path):
        os.mkfifo(tmp_path / "pipe.mkv")
        refused(tmp_path / "pipe.mkv", tmp_path / "out.mkv", code=2, says="read more than once")

    def test_an_empty_folder(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        refused(tmp_path / "empty", tmp_path / "out.mp4", code=2, says="it is empty")

    def test_a_damaged_frame_where_none_may_be_replaced(self, refused, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        for index, pixels in enumerate(texture(3)):
            (folder / f"{index}.png").write_bytes(encode_image(pixels, None, ".png"))
        (folder / "1.png").write_bytes(b"\x89PNG broken")
        refused(folder, tmp_path / "out.mkv", "--strict", code=2, says="at 0.040 s is damaged")

    def test_input_equal_to_output(self, refused, source):
        refused(source, source, code=2, says="both input and output")

    def test_input_equal_to_output_by_another_path(self, refused, source, tmp_path):
        (tmp_path / "link.mkv").hardlink_to(source)
        refused(source, tmp_path / "link.mkv", code=2, says="both input and output")

    def test_an_output_that_links_to_itself(self, refused, source, tmp_path):
        (tmp_path / "loop.mp4").symlink_to("loop.mp4")
        refused(source, tmp_path / "loop.mp4", code=2, says="leads to itself")
        flags = ("--report", tmp_path / "loop.mp4")
        refused(source, tmp_path / "out.mp4", *flags, code=2, says="leads to itself")

    def test_a_folder_of_outputs_that_links_to_itself(self, refused, source, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / source.name).symlink_to(source)
        (tmp_path / "loop").symlink_to("loop")
        refused(tmp_path / "in", tmp_path / "loop", code=2, says="leads to itself")

    def test_an_output_without_a_name(self, refused, source, tmp_path, monkeypatch):
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        refused(source, ".", code=2, says="has no name")
        refused(source, ".", "--preview", code=2, says="has no name")

    def test_a_missing_output_folder(self, refused, source, tmp_path):
        refused(source, tmp_path / "no" / "out.mp4", code=2, says="no such folder")

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
    def test_an_unwritable_folder(self, refused, source, tmp_path):
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        refused(source, locked / "out.mp4", code=2, says="cannot be written")

    def test_an_output_folder_for_one_file(self, refused, source, tmp_path):
        (tmp_path / "there.mp4").mkdir()
        (tmp_path / "there.mp4" / "mine").touch()
        refused(source, tmp_path / "there.mp4", code=2, says="there.mp4")

    @pytest.mark.parametrize("report", [".", "no/report.json", "r" * 251])
    def test_a_report_that_cannot_be_written(self, refused, source, tmp_path, report):
        flags = ("--report", tmp_path / report)
        refused(source, tmp_path / "out.mkv", *flags, code=2, says="the report cannot be written")

    def test_a_name_that_leaves_no_room_for_the_reports(self, refused, source, tmp_path):
        refused(source, tmp_path / f"{'x' * 251}.mkv", code=2, says="--report")

    def test_an_unknown_container(self, refused, source, tmp_path):
        refused(source, tmp_path / "out.xyz", code=2, says=".xyz")

    def test_a_codec_that_the_container_cannot_hold(self, refused, source, tmp_path):
        refused(source, tmp_path / "out.webm", "--codec", "x264", code=2, says="webm")

    def test_an_absurd_size(self, refused, source, tmp_path):
        refused(source, tmp_path / "out.mkv", "--height", "60000", code=2, says="4800 million")

    def test_an_absurd_scale(self, refused, source, tmp_path):
        refused(source, tmp_path / "out.mkv", "--scale", "1e9", code=2, says="scale=1e+09")

    def test_a_range_without_frames(self, refused, source, tmp_path):
        refused(source, tmp_path / "out.mkv", "--start", "1:00:00", code=2, says="no frame in")

    def test_an_unknown_word(self, refused, source, tmp_path):
        refused(source, tmp_path / "out.mkv", "--prompt", "zyzzyva", code=2, says="zyzzyva")

    def test_an_option_that_the_model_cannot_honour(self, refused, source, tmp_path):
        refused(source, tmp_path / "out.mkv", "--noise-level", "999", code=2, says="noise_level")

    def test_temporal_layers_of_a_model_that_has_none(self, refused, source, tmp_path, capsys):
        model = tiny_diffusers_upscaler(tmp_path / "image")
        capsys.readouterr()  # diffusers' progress
        flags = ("--model", model, "--steps", "1", "--guidance", "1")
        asked = (*flags, "--consistency", "temporal,propagation")
        refused(source, tmp_path / "out.mkv", *asked, code=2, says="no temporal layers")
        code, said = run(capsys, "upscale", source, tmp_path / "out.mkv", "--quiet", *flags)
        assert code == 0, said  # the model's own default

    def test_a_missing_device(self, refused, source, tmp_path):
        refused(source, tmp_path / "out.mkv", "--device", "cuda:99", code=4, says="cuda:99")

    def test_a_missing_model(self, refused, source, tmp_path):
        flags = ("--model", tmp_path / "none")
        refused(source, tmp_path / "out.mkv", *flags, code=3, says="none")

    @pytest.mark.parametrize("keep", [0, 5, 0.5, 0.999])
    def test_a_truncated_model(self, refused, source, tmp_path, tiny_model, keep):
        broken = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
        weights = sorted(broken.rglob("*.safetensors"))[0]
        data = weights.read_bytes()
        weights.write_bytes(data[: keep if keep > 1 else int(keep * len(data))])
        refused(source, tmp_path / "out.mkv", "--model", broken, code=3, says="error")

    def test_a_changed_model(self, refused, source, tmp_path, tiny_model):
        broken = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
        weights = sorted(broken.rglob("*.safetensors"))[0]
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        refused(source, tmp_path / "out.mkv", "--model", broken, code=3, says="sha256")

    def test_a_disk_that_is_too_small(self, refused, source, tmp_path, monkeypatch):
        monkeypatch.setattr(prepare, "bytes_on_disk", lambda *_, **__: 10**18)
        refused(source, tmp_path / "out.mkv", code=4, says="GB are free")

    def test_a_name_that_is_too_long(self, refused, source, tmp_path):
        target = tmp_path / f"{'x' * 300}.mkv"
        refused(source, target, code=2, says="the name is too long for its disk")

    def test_a_disk_that_fills_up(self, refused, source, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(job, "write_picture", full)
        refused(source, tmp_path / "out.mkv", code=4, says="disk is full")

    def test_two_jobs_on_one_output(self, capsys, source, tmp_path, tiny_model):
        folder = WorkFolder(tmp_path / "out.mkv")
        folder.create()
        with Lock(folder.lock):
            code, said = run(
                capsys, "upscale", source, tmp_path / "out.mkv", "--quiet", "--model", tiny_model
            )
        assert code == 4
        assert "another run" in said


ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are text")


@pytest.mark.parametrize(
    "name",
    [
        "-out.mkv",
        "a b 'c' \"d\" $e `f`;g.mkv",
        "日本 ünï.mkv",
        "%d.mkv",
        "x" * 251 + ".mkv",
        "no_report_clash.legato.json.mkv",
        pytest.param(os.fsdecode(b"caf\xe9.mkv"), marks=ON_LINUX),
    ],
    ids=["dash", "quotes", "unicode", "pattern", "long", "json", "bytes"],
)
def test_any_name_is_a_name(name, source, tmp_path, capsys, tiny_model):
    folder = tmp_path / "out"
    folder.mkdir()
    report = folder / "r.json"  # the longest name leaves no room for the report's own
    code, said = run(
        capsys,
        *("upscale", source, folder / name, "--quiet", "--model", tiny_model),
        *("--codec", "ffv1", "--report", report),
    )
    assert code == 0, said
    assert left_in(folder, "r.json") == [name]


@pytest.mark.slow
def test_without_locale_or_terminal_the_output_is_ascii(source, tmp_path, tiny_model):
    target = tmp_path / "日本.mkv"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "legato.apps.entry", "upscale", str(source), str(target)]
    result = subprocess.run(
        [*command, "--model", tiny_model], capture_output=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.isascii()
    assert result.stdout.isascii()
    assert target.exists()


@pytest.mark.slow
def test_flipped_bytes_never_crash_or_leave_a_broken_file(tmp_path, shared, tiny_model, capsys):
    """Damage at random: an output with as many frames as the report says, or one line."""
    healthy = (shared / "data" / "odd" / "29_two_frames.mp4").read_bytes()
    chance = random.Random(5)
    codes = []
    for trial in range(40):
        data = bytearray(healthy)
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        source, target = tmp_path / f"{trial}.mp4", tmp_path / f"{trial}.mkv"
        source.write_bytes(data)
        code, said = run(
            capsys,
            *("upscale", source, target, "--quiet", "--model", tiny_model, "--scale", "1"),
            *("--consistency", "none"),
        )
        codes.append(code)
        assert code in (0, 2, 4), (trial, said)
        assert target.exists() == (code == 0)
        assert not list(tmp_path.glob(".*"))
    assert {0, 2} <= set(codes)
