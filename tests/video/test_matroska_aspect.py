"""The shape of pixels in files whose muxer cannot be told."""

from fractions import Fraction

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_files import STEADY, make_video, upscale

from legato.video.matroska_aspect import display_size, set_sample_aspect
from legato.video.probe import probe
from legato.video.read import read_frames


@given(
    st.fractions(Fraction(1, 5), 5, max_denominator=300),
    st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
)
def test_the_display_size_has_exactly_the_wanted_shape(aspect, size):
    width, height = display_size(aspect, size)
    assert Fraction(width, height) == Fraction(*size) * aspect
    assert width >= size[0]
    assert height >= size[1]


@pytest.mark.parametrize("with_others", [False, True])
@pytest.mark.parametrize("aspect", [Fraction(16, 15), Fraction(1, 2), Fraction(171, 160)])
def test_the_aspect_is_read_back_and_everything_else_is_as_before(tmp_path, aspect, with_others):
    path = make_video(
        tmp_path / "a.mkv",
        codec="ffv1",
        pixel_format="bgr0",
        with_others=with_others,
        container_options={"write_crc32": "0"},
    )
    with av.open(str(path)) as before:
        packets = [bytes(p) for p in before.demux() if p.size]
        chapters, streams = before.chapters(), [s.type for s in before.streams]
    size_before = path.stat().st_size
    if not set_sample_aspect(path, aspect, size=(64, 48)):
        pytest.fail("the header of a fresh file was not understood")
    assert probe(path).sample_aspect == aspect
    assert path.stat().st_size == size_before
    with av.open(str(path)) as after:
        assert [bytes(p) for p in after.demux() if p.size] == packets
        assert (after.chapters(), [s.type for s in after.streams]) == (chapters, streams)
    late = list(read_frames(path, start_pts=300))
    assert late[0].pts >= 300
    assert len(late) < len(STEADY)


@pytest.mark.parametrize("letters", range(0, 140, 7))
def test_a_track_list_of_any_length_can_grow(tmp_path, letters):
    """Its size may need another byte; the two elements are 14 bytes long, the steps 7."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", container_options={"write_crc32": "0"}) as container:
        video = container.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        video.metadata["title"] = "x" * letters
        container.mux(video.encode(av.VideoFrame(64, 48, "yuvj420p")))
        container.mux(video.encode(None))
    assert set_sample_aspect(path, Fraction(16, 15), size=(64, 48))
    facts = probe(path)
    assert facts.sample_aspect == Fraction(16, 15)
    assert facts.streams[0].title == "x" * letters
    assert len(list(read_frames(path))) == 1


@pytest.mark.parametrize("codec", ["av1", "x264", "vp9", "ffv1"])
def test_every_codec_keeps_the_aspect_in_matroska(tmp_path, codec):
    source = make_video(tmp_path / "in.mp4", pts=STEADY[:3], aspect=Fraction(16, 15))
    report = upscale(source, tmp_path / "out.mkv", codec=codec)
    assert probe(tmp_path / "out.mkv").sample_aspect == Fraction(16, 15)
    assert report.notices == []


def test_a_header_with_checksums_is_left_alone(tmp_path):
    path = make_video(tmp_path / "a.mkv")
    before = path.read_bytes()
    assert not set_sample_aspect(path, Fraction(2), size=(64, 48))
    assert path.read_bytes() == before


def test_what_is_no_matroska_file_is_left_alone(tmp_path):
    path = make_video(tmp_path / "a.mp4")
    before = path.read_bytes()
    assert not set_sample_aspect(path, Fraction(2), size=(64, 48))
    assert path.read_bytes() == before
