from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from legato.errors import InputError
from legato.evaluation.compare import CompareOptions, compare, profile_path
from legato.video.codecs import CodecOptions
from legato.video.probe import probe


def make(path, *, size=(64, 48), num_frames=5, level=60, pix_fmt="yuv420p", aspect=1, turn=0):
    """A grey video whose brightness rises by ten from frame to frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.options = {"crf": "1"}
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        if turn:
            stream.set_display_rotation(turn)
        for t in range(num_frames):
            pixels = np.full((size[1], size[0], 3), level + 10 * t, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def spoil(path):
    """Overwrite the last frame's data, so that it cannot be decoded."""
    with av.open(str(path)) as container:
        last = max((p for p in container.demux(video=0) if p.size), key=lambda packet: packet.pos)
        pos, size = last.pos, last.size
    with path.open("r+b") as file:
        file.seek(pos)
        file.write(bytes(size))


def frames(path):
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


@pytest.fixture
def pair(tmp_path):
    small = make(tmp_path / "a.mp4", size=(32, 24), level=60)
    return small, make(tmp_path / "b.mp4", size=(64, 48), level=120)


def test_side_by_side_shows_both_whole_at_the_larger_size(pair, tmp_path):
    result = compare(*pair, tmp_path / "c.mp4")
    shown = frames(result.video)
    assert [picture.shape for _, picture in shown] == [(48, 128, 3)] * 5
    for t, (_, picture) in enumerate(shown):
        assert picture[:, :64].mean() == pytest.approx(60 + 10 * t, abs=3)
        assert picture[:, 64:].mean() == pytest.approx(120 + 10 * t, abs=3)
    assert result.num_frames == 5
    assert result.notices == ()


def test_a_damaged_frame_is_told(pair, tmp_path):
    spoil(pair[1])
    result = compare(*pair, tmp_path / "c.mp4")
    assert result.num_frames == 5
    (notice,) = result.notices
    assert str(pair[1]) in notice
    assert "1 of 5 frames could not be decoded" in notice


def test_times_are_those_of_the_first_video(pair, tmp_path):
    result = compare(*pair, tmp_path / "c.mp4")
    assert [time for time, _ in frames(result.video)] == [time for time, _ in frames(pair[0])]


@pytest.mark.parametrize("turn", [90, 180])
def test_pixels_turn_with_the_picture(tmp_path, turn):
    source = make(tmp_path / "a.mp4", aspect=Fraction(4, 3), turn=turn)
    result = compare(source, source, tmp_path / "c.mp4")
    assert probe(result.video).sample_aspect == (Fraction(3, 4) if turn == 90 else Fraction(4, 3))


def test_split_takes_left_from_a_and_right_from_b(pair, tmp_path):
    options = CompareOptions(layout="split", split=0.25)
    _, picture = frames(compare(*pair, tmp_path / "c.mp4", options).video)[0]
    assert picture.shape == (48, 64, 3)
    assert picture[:, :12].mean() == pytest.approx(60, abs=4)
    assert picture[:, 22:].mean() == pytest.approx(120, abs=4)


def test_profile_has_one_band_per_frame(pair, tmp_path):
    result = compare(*pair, tmp_path / "c.mp4")
    assert result.profile == profile_path(tmp_path / "c.mp4")
    profile = cv2.imread(str(result.profile))
    assert profile.shape == (240, 128, 3)
    levels = profile[:, :64].mean(axis=(1, 2)).reshape(5, 48)
    assert levels.mean(axis=1) == pytest.approx([60, 70, 80, 90, 100], abs=3)


def test_row_chooses_the_line_of_the_profile(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[40:] = 200
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    means = []
    for row in (0.0, 1.0):
        options = CompareOptions(row=row)
        source = tmp_path / "a.png"
        result = compare(source, source, tmp_path / "c.mp4", options)
        means.append(cv2.imread(str(result.profile)).mean())
    assert means == pytest.approx([0, 200], abs=1)


def test_the_longer_video_is_cut_with_a_notice(tmp_path):
    a = make(tmp_path / "a.mp4", num_frames=3)
    b = make(tmp_path / "b.mp4", num_frames=5)
    result = compare(a, b, tmp_path / "c.mp4")
    assert (result.num_frames, len(frames(result.video))) == (3, 3)
    assert "b.mp4 has more frames" in result.notices[0]


def test_an_input_is_never_overwritten(pair):
    with pytest.raises(InputError, match="one of the inputs"):
        compare(*pair, pair[1])


def test_a_profile_never_overwrites_an_input(pair, tmp_path):
    picture = tmp_path / "c.profile.png"
    cv2.imwrite(str(picture), np.full((24, 32, 3), 9, np.uint8))
    before = picture.read_bytes()
    with pytest.raises(InputError, match="one of the inputs"):
        compare(picture, pair[1], tmp_path / "c.mp4")
    assert picture.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "codec"), [("c.mp4", "prores"), ("c.mov", "av1"), ("c.mp4", "png")]
)
def test_codecs_that_the_container_does_not_hold_are_refused(pair, tmp_path, name, codec):
    options = CompareOptions(output=CodecOptions(codec=codec))
    with pytest.raises(InputError, match=f"codec='{codec}'"):
        compare(*pair, tmp_path / name, options)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["c.MP4", "c.Mov"])
def test_a_suffix_in_upper_case_is_the_same_container(pair, tmp_path, name):
    assert len(frames(compare(*pair, tmp_path / name).video)) == 5


def test_other_containers_are_refused(pair, tmp_path):
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        compare(*pair, tmp_path / "c.mkv")


@pytest.mark.parametrize("name", ["split", "row"])
def test_shares_beyond_the_picture_are_refused(name):
    with pytest.raises(InputError, match=rf"{name}=1\.5"):
        CompareOptions(**{name: 1.5})


def test_a_place_of_the_split_is_refused_where_nothing_is_split():
    with pytest.raises(InputError, match=r"split=0\.3.*counts only with --layout split;"):
        CompareOptions(split=0.3)


def test_a_folder_is_never_replaced(pair, tmp_path):
    (tmp_path / "full.mp4").mkdir()
    (tmp_path / "full.mp4" / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match="is a folder"):
        compare(*pair, tmp_path / "full.mp4")
    assert (tmp_path / "full.mp4" / "notes.txt").read_text() == "precious"
