import cv2
import numpy as np
import pytest
from clips import pixels_of, texture, times_of, write_clip

from legato.errors import Interrupted
from legato.pipelines.output import picture_path, preview_path
from legato.pipelines.preview import preview
from legato.pipelines.upscale import upscale
from legato.video.images import encode_image


def test_a_preview_shows_the_most_detailed_shot_as_the_whole_job_gives_it(options, tmp_path):
    """The first shot is dark and flat; the second one shows detail."""
    source = tmp_path / "in.mkv"
    frames = texture(12)
    frames[:6] //= 8
    write_clip(source, frames, sound=True)
    assert upscale(source, tmp_path / "whole.mkv", options()).shots == 2
    report = preview(source, tmp_path / "part.mkv", options())
    assert report.frames_out == 6
    assert np.array_equal(
        pixels_of(tmp_path / "part_preview.mkv"), pixels_of(tmp_path / "whole.mkv")[6:]
    )
    assert times_of(tmp_path / "part_preview.mkv")[0] == 0


def test_a_preview_ends_after_two_seconds_and_whole_segments(options, tmp_path):
    source = tmp_path / "in.mkv"
    write_clip(source, texture(70, (8, 8)), sound=False)
    report = preview(source, tmp_path / "part.mkv", options(segment=16))
    assert report.frames_out == 64  # four segments: the fourth begins before two seconds
    whole = options(segment=16)
    upscale(source, tmp_path / "whole.mkv", whole)
    assert np.array_equal(
        pixels_of(tmp_path / "part_preview.mkv"), pixels_of(tmp_path / "whole.mkv")[:64]
    )


def test_a_preview_of_a_part_of_a_folder_of_images_misses_nothing(options, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for index, picture in enumerate(texture(70, (8, 8))):
        (source / f"{index:02d}.png").write_bytes(encode_image(picture, None, ".png"))
    report = preview(source, tmp_path / "part.mkv", options(segment=16))
    assert report.frames_out == 64
    assert report.differences == []


def test_a_preview_of_later_images_is_named_after_them(options, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    pictures = texture(12, (32, 24))
    pictures[:6] //= 8  # the second shot has the most detail
    for index, picture in enumerate(pictures):
        (source / f"img{index:02d}.png").write_bytes(encode_image(picture, None, ".png"))
    preview(source, tmp_path / "part", options(segment=4, codec="auto"))
    names = sorted(path.stem for path in (tmp_path / "part_preview").iterdir())
    assert names == [f"img{index:02d}" for index in range(6, 12)]


def test_the_picture_shows_before_and_after(clip, options, tmp_path):
    target = tmp_path / "part.mkv"
    preview(clip(), target, options())
    picture = cv2.imread(str(picture_path(target)))[..., ::-1]
    assert picture.shape == (96, 256, 3)
    finished = pixels_of(preview_path(target))
    assert any(np.array_equal(picture[:, 128:], frame) for frame in finished)
    assert not np.array_equal(picture[:, :128], picture[:, 128:])


def stop_after_one():
    asked = iter((False, True))
    return lambda: next(asked)


def test_a_preview_leaves_an_interrupted_job_and_its_output_alone(clip, options, tmp_path):
    target = tmp_path / "out.mkv"
    target.write_bytes(b"finished before")
    with pytest.raises(Interrupted):
        upscale(clip(frames=10), target, options(segment=4), stop=stop_after_one())
    kept = sorted((tmp_path / ".out.mkv.legato").iterdir())
    preview(clip(frames=10), target, options(segment=4))
    assert sorted((tmp_path / ".out.mkv.legato").iterdir()) == kept
    assert target.read_bytes() == b"finished before"
