"""Probing and reading files of many kinds."""

import random
import re
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tiny_files import STEADY, TICK, make_video, picture

from legato.errors import DecodeError
from legato.video.images import orient, read_image
from legato.video.probe import probe
from legato.video.read import ReadOptions, ReadReport, read_frames, read_times

UNEVEN = (0, 1001, 1500, 9000, 9001, 20_000, 20_500, 31_000, 40_000, 40_001, 41_000, 50_000)

ORIENTATION = 0x0112  # the tag of EXIF


def times(path, **kwargs):
    return [frame.time for frame in read_frames(path, **kwargs)]


@pytest.mark.parametrize("pts", [STEADY, UNEVEN, tuple(t + 7007 for t in STEADY)])
def test_times_are_read_exactly_as_written(tmp_path, pts):
    path = make_video(tmp_path / "a.nut", pts=pts, options={"bf": "0"})
    assert times(path) == [t * TICK for t in pts]
    assert list(read_times(path)) == times(path)


def test_the_rate_is_a_fraction(tmp_path):
    path = make_video(tmp_path / "a.mp4", pts=STEADY)
    assert probe(path).frame_rate == Fraction(30_000, 1001)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format", "options"),
    [
        ("mp4", "libx264", "yuv420p", {"bf": "2"}),
        ("mkv", "libx265", "yuv420p10le", {"x265-params": "log-level=none:open-gop=1:keyint=6"}),
        ("webm", "libvpx-vp9", "yuv420p", {}),
        ("ts", "libx264", "yuv420p", {"bf": "2"}),
        ("avi", "mpeg4", "yuv420p", {"bf": "2"}),
        ("gif", "gif", "rgb8", {}),
    ],
)
def test_starting_later_gives_the_same_frames_as_starting_at_the_beginning(
    tmp_path, suffix, codec, pixel_format, options
):
    base = {"avi": Fraction(1, 30), "gif": Fraction(1, 100)}.get(suffix, TICK)
    steps = tuple(i * (3 if suffix == "gif" else 1) for i in range(24))
    pts = steps if suffix in ("avi", "gif") else tuple(i * 1001 for i in range(24))
    path = make_video(
        tmp_path / f"a.{suffix}",
        pts=pts,
        time_base=base,
        codec=codec,
        pixel_format=pixel_format,
        options=options,
        gop=6,
    )
    everything = list(read_frames(path))
    assert len(everything) == 24
    for first in (0, 1, 5, 6, 7, 13, 17, 23):
        late = list(read_frames(path, start_pts=everything[first].pts))
        assert [f.pts for f in late] == [f.pts for f in everything[first:]]
        assert all(
            np.array_equal(a.pixels, b.pixels)
            for a, b in zip(late, everything[first:], strict=True)
        )


def test_seeking_skips_most_of_the_decoding(tmp_path):
    path = make_video(tmp_path / "a.mp4", pts=tuple(i * 1001 for i in range(60)), gop=5)
    report = ReadReport()
    late = read_frames(path, start_pts=50 * 1001, report=report)
    assert next(late).pts == 50 * 1001
    assert probe(path).seekable


def test_interlaced_video_is_deinterlaced_frame_for_frame(tmp_path):
    interlaced = 0x20000000 | 0x00040000  # AV_CODEC_FLAG_INTERLACED_ME, _DCT
    path = make_video(
        tmp_path / "a.mpg",
        codec="mpeg2video",
        pts=range(20),
        time_base=Fraction(1, 25),
        flags=interlaced,
        options={"field_order": "tt", "top": "1"},
    )
    facts = probe(path)
    if facts.interlaced == "progressive":
        pytest.skip("this build's MPEG-2 encoder writes no interlaced flag")
    kept = ReadOptions(keep_interlaced=True)
    woven = list(read_frames(path, options=kept))
    frames = list(read_frames(path))
    assert len(frames) == len(woven) == 20
    assert [f.pts for f in frames] == [f.pts for f in woven]
    assert not any(np.array_equal(a.pixels, b.pixels) for a, b in zip(frames, woven, strict=True))
    assert "bwdif" in " ".join(ReadOptions().notices(facts))
    assert "kept so" in " ".join(kept.notices(facts))
    late = list(read_frames(path, start_pts=frames[11].pts))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(late, frames[11:], strict=True))


def in_tiles():
    """An HEIC whose picture is a grid of four tiles, without their data."""

    def box(kind, *parts):
        data = b"".join(parts)
        return struct.pack(">I4s", len(data) + 8, kind) + data

    def full(kind, version, *parts):
        return box(kind, struct.pack(">I", version << 24), *parts)

    grid = struct.pack(">BBBBHH", 0, 0, 1, 1, 128, 128)

    def head(at):
        kinds = zip(range(1, 6), [b"hvc1"] * 4 + [b"grid"], strict=True)
        items = [full(b"infe", 2, struct.pack(">HH4s", k, 0, kind), b"\0") for k, kind in kinds]
        places = [struct.pack(">HHHII", k, 0, 1, at, len(grid)) for k in range(1, 6)]
        sizes = [struct.pack(">HBB", k, 1, 1) for k in range(1, 5)]
        return box(b"ftyp", b"heic\0\0\0\0mif1heic") + full(
            b"meta",
            0,
            full(b"hdlr", 0, b"\0\0\0\0pict" + b"\0" * 13),
            full(b"pitm", 0, struct.pack(">H", 5)),
            full(b"iloc", 0, struct.pack(">BBH", 0x44, 0, 5), *places),
            full(b"iinf", 0, struct.pack(">H", 5), *items),
            box(
                b"iprp",
                box(b"ipco", full(b"ispe", 0, struct.pack(">II", 64, 64))),
                full(b"ipma", 0, struct.pack(">I", 4), *sizes),
            ),
            full(b"iref", 0, box(b"dimg", struct.pack(">HHHHHH", 5, 4, 1, 2, 3, 4))),
        )

    return head(len(head(0)) + 8) + box(b"mdat", grid)


def test_one_tile_of_a_picture_is_not_taken_for_the_whole(tmp_path):
    """Photographs of phones are stored so; decoders here see the tiles alone."""
    path = tmp_path / "a.heic"
    path.write_bytes(in_tiles())
    with pytest.raises(DecodeError, match="stored in tiles"):
        probe(path)


def coded_mpeg2(num_frames, *, is_interlaced):
    """Packets of one MPEG-2 group of bars that move by half a step from field to field."""
    context = av.CodecContext.create("mpeg2video", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.time_base, context.gop_size, context.max_b_frames = Fraction(1, 25), num_frames, 0
    context.framerate = 25
    if is_interlaced:
        context.flags |= 0x20000000 | 0x00040000  # AV_CODEC_FLAG_INTERLACED_ME, _DCT
    rows, columns = np.mgrid[:48, :64]
    packets = []
    for k in range(num_frames):
        moved = columns + 6 * k + (3 * (rows % 2) if is_interlaced else 0)
        bars = np.uint8(moved // 8 % 2 * 180 + 30)[..., None].repeat(3, axis=2)
        frame = av.VideoFrame.from_ndarray(bars, "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = k, Fraction(1, 25)
        if is_interlaced:
            graph = av.filter.Graph()
            graph.link_nodes(
                graph.add_buffer(
                    width=64, height=48, format=frame.format, time_base=Fraction(1, 25)
                ),
                graph.add("setfield", "mode=bff"),
                graph.add("buffersink"),
            ).configure()
            graph.vpush(frame)
            frame = graph.vpull()
        packets += context.encode(frame)
    return packets + context.encode(None)


def test_pictures_of_both_kinds_are_deinterlaced_alike_from_wherever_they_are_read(tmp_path):
    """Groups of progressive and of interlaced pictures in one file, as on hybrid DVDs."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, width=64, height=48)
        stream.pix_fmt = "yuv420p"
        at = 0
        for count, is_interlaced in ((3, False), (8, True), (8, False), (8, True)):
            for packet in coded_mpeg2(count, is_interlaced=is_interlaced):
                packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 25), 1
                packet.pts = packet.dts = at
                container.mux(packet)
                at += 1
    facts = probe(path)
    assert facts.flags_fields
    frames = list(read_frames(path))
    woven = list(read_frames(path, options=ReadOptions(keep_interlaced=True)))
    changed = [not np.array_equal(a.pixels, b.pixels) for a, b in zip(frames, woven, strict=True)]
    with av.open(str(path)) as container:
        flagged = [frame.interlaced_frame for frame in container.decode(video=0)]
    assert changed == flagged
    assert flagged[0] is flagged[12] is not flagged[5] is flagged[-1]
    for first in (4, 11, 14, 20):
        late = list(read_frames(path, start_pts=frames[first].pts))
        assert len(late) == len(frames) - first
        for a, b in zip(late, frames[first:], strict=True):
            assert np.array_equal(a.pixels, b.pixels)


def with_times_that_fall_back(path):
    """Write 40 frames at 10 per second, keyframes every half second; from 2 s on, 1.5 s early."""
    make_video(
        path,
        pts=range(0, 4000, 100),
        time_base=Fraction(1, 1000),
        codec="ffv1",
        pixel_format="bgr0",
        container_options={"cluster_time_limit": "500"},
    )
    raw, at = bytearray(path.read_bytes()), 0
    while (at := raw.find(b"\x1f\x43\xb6\x75", at)) >= 0:  # a Matroska cluster and its time
        begin = raw.index(b"\xe7", at + 4, at + 20) + 2
        end = begin + (raw[begin - 1] & 0x7F)
        time = int.from_bytes(raw[begin:end], "big")
        if time >= 2000:
            raw[begin:end] = (time - 1500).to_bytes(end - begin, "big")
        at += 4
    path.write_bytes(raw)
    return path


def test_any_frame_is_reached_where_times_fall_back(tmp_path):
    path = with_times_that_fall_back(tmp_path / "back.mkv")
    report = ReadReport()
    frames = list(read_frames(path, report=report))
    assert report.num_retimed > 0
    for index, frame in enumerate(frames[1:], 1):
        rest = list(read_frames(path, start_pts=frame.pts))
        assert [f.pts for f in rest] == [f.pts for f in frames[index:]]
        assert np.array_equal(rest[0].pixels, frame.pixels)


def test_rotation_aspect_and_colour_tags_are_facts_and_pixels_stay_as_stored(tmp_path):
    path = make_video(
        tmp_path / "a.mp4", rotation=90, aspect=Fraction(4, 3), tags=(9, 9, 16, 1), size=(64, 32)
    )
    facts = probe(path)
    assert (facts.width, facts.height, facts.rotation_deg) == (64, 32, 90)
    assert facts.sample_aspect == Fraction(4, 3)
    tags = facts.colour
    assert (tags.matrix, tags.primaries, tags.transfer, tags.full_range) == (9, 9, 16, False)
    assert next(read_frames(path)).pixels.shape == (32, 64, 3)


@pytest.mark.parametrize(
    ("pixel_format", "codec", "suffix", "depth"),
    [
        ("yuv420p", "libx264", "mp4", 8),
        ("yuv422p10le", "prores_ks", "mov", 10),
        ("gbrp12le", "ffv1", "mkv", 12),
        ("gray", "ffv1", "mkv", 8),
        ("gray10le", "ffv1", "mkv", 10),
    ],
)
def test_depth_decides_the_dtype_and_values_span_the_whole_range(
    tmp_path, pixel_format, codec, suffix, depth
):
    path = make_video(tmp_path / f"a.{suffix}", codec=codec, pixel_format=pixel_format)
    frame = next(read_frames(path))
    largest = 255 if depth == 8 else 65535
    assert probe(path).bit_depth == depth
    assert frame.pixels.dtype == (np.uint8 if depth == 8 else np.uint16)
    if "gray" not in pixel_format:
        error = np.abs(frame.pixels / largest - picture(0) / 255).mean()
        assert error < 0.03
    assert frame.pixels.max() > 0.8 * largest


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        ("libvpx-vp9", "yuva420p", "webm"),
        ("prores_ks", "yuva444p10le", "mov"),
        ("ffv1", "bgra", "mkv"),
    ],
)
def test_opacity_is_read_apart(tmp_path, codec, pixel_format, suffix):
    options = {"auto-alt-ref": "0"} if suffix == "webm" else {}
    path = make_video(
        tmp_path / f"a.{suffix}", codec=codec, pixel_format=pixel_format, options=options
    )
    frame = next(read_frames(path))
    assert probe(path).has_alpha
    largest = np.iinfo(frame.alpha.dtype).max
    expected = picture(0, channels=4)[..., 3] / 255
    assert np.abs(frame.alpha / largest - expected).mean() < 0.03


def test_a_jpeg_for_print_has_its_colours_and_no_opacity(tmp_path):
    rows, cols = np.mgrid[0:64, 0:64]
    shades = np.stack([cols * 4, rows * 4, 255 - cols * 2 - rows * 2], axis=-1).astype(np.uint8)
    Image.fromarray(shades).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert not probe(tmp_path / "print.jpg").has_alpha
    frame = next(read_frames(tmp_path / "print.jpg"))
    assert frame.alpha is None
    assert np.abs(frame.pixels.astype(int) - shades).mean() < 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_and_mirrored_as_its_camera_says(tmp_path, suffix, orientation):
    rows, cols = np.mgrid[0:32, 0:64]
    stored = Image.fromarray(np.stack([cols * 4, rows * 8, cols + rows], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, quality=95)
    with Image.open(path) as saved:
        expected = np.asarray(ImageOps.exif_transpose(saved).convert("RGB"), int)
    (frame,) = read_frames(path)
    assert (probe(path).width, probe(path).height) == expected.shape[1::-1]
    for pixels in (frame.pixels, read_image(path)[0]):
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).mean() < 3


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_no_colour_matrix_is_missed_in_a_grey_picture(tmp_path, mode):
    Image.new(mode, (20, 10), 90 if mode == "L" else (90, 255)).save(tmp_path / "grey.png")
    facts = probe(tmp_path / "grey.png")
    assert not facts.notices
    assert (next(read_frames(tmp_path / "grey.png")).pixels == 90).all()


def test_an_opaque_gif_has_no_opacity(tmp_path):
    path = make_video(
        tmp_path / "a.gif",
        codec="gif",
        pixel_format="rgb8",
        pts=range(0, 30, 10),
        time_base=Fraction(1, 100),
    )
    assert not probe(path).has_alpha


def test_a_change_of_size_midway_is_scaled_to_the_first_and_counted(tmp_path):
    first = make_video(tmp_path / "a.ts", pts=STEADY[:4])
    second = make_video(tmp_path / "b.ts", pts=[t + 4 * 1001 for t in STEADY[:4]], size=(80, 60))
    both = tmp_path / "c.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    report = ReadReport()
    frames = list(read_frames(both, report=report))
    assert {f.pixels.shape for f in frames} == {(48, 64, 3)}
    assert report.num_rescaled == 4
    assert len(frames) == 8
    first, stop = frames[2].pts, frames[5].pts
    for bounds, expected in (
        ({"start_pts": first}, (6, 4)),
        ({"stop_pts": stop}, (5, 1)),
        ({"start_pts": first, "stop_pts": stop}, (3, 1)),
    ):
        report = ReadReport()
        part = list(read_frames(both, report=report, **bounds))
        assert (len(part), report.num_rescaled) == expected


def test_what_is_mended_before_and_behind_a_range_is_not_counted(tmp_path):
    path = with_times_that_fall_back(tmp_path / "back.mkv")
    whole = ReadReport()
    frames = list(read_frames(path, report=whole))
    part = ReadReport()
    cut = frames[7].pts
    rest = list(read_frames(path, start_pts=cut, report=part))
    assert rest[0].pts == cut
    assert part.num_retimed <= part.num_frames == len(frames) - 7
    before = ReadReport()
    assert len(list(read_frames(path, stop_pts=cut, report=before))) == 7
    assert before.num_retimed + part.num_retimed == whole.num_retimed


def damage(path, target, *, seed, num_bytes=60):
    data = bytearray(path.read_bytes())
    body = data.index(b"mdat") + 8
    chooser = random.Random(seed)
    for _ in range(num_bytes):
        data[chooser.randrange(body + 600, len(data) - 2000)] = chooser.randrange(256)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("seed", range(6))
def test_damaged_packets_cost_no_frame_and_are_counted(tmp_path, seed):
    good = make_video(tmp_path / "a.mp4", pts=tuple(i * 1001 for i in range(30)), size=(128, 96))
    bad = damage(good, tmp_path / "b.mp4", seed=seed)
    report = ReadReport()
    frames = list(read_frames(bad, report=report))
    assert [f.pts for f in frames] == [i * 1001 for i in range(30)]
    assert report.num_repeated == sum(f.repeated for f in frames)
    again = list(read_frames(bad))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(frames, again, strict=True))


def test_a_lost_frame_is_replaced_by_the_last_good_one_and_said_so(tmp_path):
    path = make_video(tmp_path / "a.mkv", codec="ffv1", pixel_format="bgr0", options={"level": "1"})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        payload = bytes(packets[4])
    data = path.read_bytes()
    path.write_bytes(data.replace(payload, b"\xff" * len(payload)))
    report = ReadReport()
    frames = list(read_frames(path, report=report))
    assert len(frames) == len(STEADY)
    assert [frame.repeated for frame in frames] == [k == 4 for k in range(len(STEADY))]
    assert np.array_equal(frames[4].pixels, frames[3].pixels)
    assert "could not be decoded" in report.notices(probe(path))[0]


@pytest.fixture
def damaged(tmp_path):
    """A clip whose fifth frame cannot be decoded."""
    path = make_video(tmp_path / "a.mov", codec="png", pixel_format="rgb24")
    with av.open(str(path)) as container:
        payload = [bytes(p) for p in container.demux(video=0) if p.size][4]
    path.write_bytes(path.read_bytes().replace(payload, b"\xff" * len(payload)))
    return path


def test_strict_reading_stops_at_a_lost_frame(damaged):
    lost = [frame.repeated for frame in read_frames(damaged)].index(True)
    assert lost == 4
    frames = read_frames(damaged, options=ReadOptions(strict=True))
    assert [next(frames).repeated for _ in range(lost)] == [False] * lost
    with pytest.raises(DecodeError, match=r"the frame at 0\.133 s is damaged"):
        next(frames)


def test_strict_reading_of_a_part_does_not_mind_what_lies_before(damaged):
    late = list(read_frames(damaged, options=ReadOptions(strict=True), start_pts=STEADY[5]))
    assert [frame.pts for frame in late] == list(STEADY[5:])


def test_strict_reading_takes_no_half_restored_frame(tmp_path):
    good = make_video(tmp_path / "a.mp4", pts=tuple(i * 1001 for i in range(30)), size=(128, 96))
    assert len(list(read_frames(good, options=ReadOptions(strict=True)))) == 30
    bad = damage(good, tmp_path / "b.mp4", seed=0)
    report = ReadReport()
    list(read_frames(bad, report=report))
    assert (report.num_concealed, report.num_repeated) != (0, 0)
    with pytest.raises(DecodeError, match="is damaged"):
        list(read_frames(bad, options=ReadOptions(strict=True)))


def test_a_truncated_tail_gives_what_can_be_decoded_and_counts_the_rest(tmp_path):
    whole = make_video(
        tmp_path / "a.mp4",
        pts=tuple(i * 1001 for i in range(30)),
        size=(128, 96),
        codec="mjpeg",
        pixel_format="yuvj420p",
    )
    with (
        av.open(str(whole), "r") as source,
        av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    data = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "c.mp4").write_bytes(data[: len(data) * 2 // 3])
    report = ReadReport()
    frames = list(read_frames(tmp_path / "c.mp4", report=report))
    assert 10 < len(frames) < 30
    notices = report.notices(probe(tmp_path / "c.mp4"))
    assert any(f"about {30 - len(frames)} frames missing" in n for n in notices)


def test_a_file_read_in_part_is_not_called_truncated(tmp_path):
    path = make_video(tmp_path / "a.mp4", pts=tuple(i * 1001 for i in range(30)))
    report = ReadReport()
    frames = read_frames(path, report=report)
    for _ in range(5):
        next(frames)
    assert report.notices(probe(path)) == []
    list(read_frames(path, report=report, start_pts=20_000))
    assert report.notices(probe(path)) == []


@pytest.mark.parametrize(
    ("promised", "counted", "longest_gap", "missing"),
    [
        (25, None, 1, 10),  # of these frames 15 are there
        (25, 27, 1, 12),
        (25, 15, 1, 0),
        (25, 27, 10, 0),  # the last one may be shown as long as another was
        (16, None, 1, 0),
        (17, None, 1, 2),
        (None, 27, 1, 0),
    ],
)
def test_frames_are_missing_where_the_promised_time_lacks_more_than_the_longest_gap(
    tmp_path, promised, counted, longest_gap, missing
):
    rate = Fraction(25)
    facts = replace(
        probe(make_video(tmp_path / "a.mp4")),
        frame_rate=rate,
        promised_seconds=None if promised is None else promised / rate,
        num_frames_estimate=counted,
    )
    report = ReadReport(
        num_frames=15, seconds=15 / rate, longest_gap=longest_gap / rate, is_complete=True
    )
    assert report.missing_at_end(facts) == missing
    assert replace(report, is_complete=False).missing_at_end(facts) == 0


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_truncated_matroska_file_is_called_so(tmp_path, suffix):
    codec = "libx264" if suffix == "mkv" else "libvpx-vp9"
    whole = make_video(
        tmp_path / f"a.{suffix}", pts=tuple(i * 1001 for i in range(30)), codec=codec
    )
    report = ReadReport()
    assert len(list(read_frames(whole, report=report))) == 30
    assert report.notices(probe(whole)) == []
    data = whole.read_bytes()
    cut = tmp_path / f"b.{suffix}"
    cut.write_bytes(data[: len(data) * 2 // 3])
    report = ReadReport()
    frames = list(read_frames(cut, report=report))
    assert 5 < len(frames) < 30
    (notice,) = (n for n in report.notices(probe(cut)) if "ends early" in n)
    missing = int(re.search(r"about (\d+)", notice)[1])
    assert abs(missing - (30 - len(frames))) <= 1
    with pytest.raises(DecodeError, match="missing at its end"):
        list(read_frames(cut, options=ReadOptions(strict=True)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_any_flipped_bytes_end_in_frames_or_in_one_error(tmp_path, flips):
    path = tmp_path / "fuzz.mp4"
    if not path.exists():
        make_video(path)
        (tmp_path / "good").write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "good").read_bytes())
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    path.write_bytes(data)
    try:
        frames = list(read_frames(path))
    except DecodeError:
        return
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    assert len({f.pixels.shape for f in frames}) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"hello\n", "text"),
        (bytes(range(256)) * 20, "no known"),
        (b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00" + bytes(500), "moov"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, content, why):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=why) as caught:
        probe(path)
    assert "\n" not in str(caught.value)


def test_text_is_no_video_whatever_its_name(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("art\n" * 50)
    with pytest.raises(DecodeError):
        probe(path)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(DecodeError, match="no such file"):
        probe(tmp_path / "nothing.mp4")
    with pytest.raises(DecodeError, match="no images"):
        probe(tmp_path)


@pytest.mark.parametrize("name", ["100%d 'ü' $(x)[1].mp4", "-leading dash.bin", "concat:a|b.png"])
def test_odd_names_and_wrong_suffixes_do_not_matter(tmp_path, name):
    (tmp_path / name).write_bytes(make_video(tmp_path / "a.mp4").read_bytes())
    assert len(times(tmp_path / name)) == len(STEADY)


def write_image(path, index, *, size=(64, 48), channels=3, deep=False):
    data = picture(index, size, channels=channels, deep=deep)
    order = [2, 1, 0, 3][:channels]
    path.write_bytes(cv2.imencode(path.suffix, data[..., order])[1].tobytes())


def test_a_folder_is_read_in_natural_order_with_its_index_as_time(tmp_path):
    for number in (0, 1, 2, 5, 10):
        write_image(tmp_path / f"{number}.png", number)
    (tmp_path / "notes.txt").write_text("not an image")
    frames = list(read_frames(tmp_path))
    assert [f.pts for f in frames] == [0, 1, 2, 3, 4]
    assert all(
        np.array_equal(f.pixels, picture(n)) for f, n in zip(frames, (0, 1, 2, 5, 10), strict=True)
    )


@pytest.mark.parametrize("broken", [0, 2])
def test_an_unreadable_image_in_a_folder_is_replaced_and_counted(tmp_path, broken):
    for number in range(4):
        write_image(tmp_path / f"{number}.png", number)
    (tmp_path / f"{broken}.png").write_bytes(b"\x89PNG broken")
    report = ReadReport()
    frames = list(read_frames(tmp_path, report=report))
    assert [f.repeated for f in frames] == [number == broken for number in range(4)]
    assert report.num_repeated == 1


def test_images_of_another_size_are_scaled_to_the_first_and_counted(tmp_path):
    for number, size in enumerate([(64, 48), (64, 40), (64, 48)]):
        pixels = cv2.cvtColor(picture(number, size), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
    for start, expected in ((0, 1), (2, 0)):
        report = ReadReport()
        frames = list(read_frames(tmp_path, start_pts=start, report=report))
        assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}
        assert report.num_rescaled == expected


def test_what_later_images_have_and_the_first_has_not_is_told(tmp_path):
    for number, (channels, deep) in enumerate([(3, False), (4, False), (3, True), (3, False)]):
        write_image(tmp_path / f"{number}.png", number, channels=channels, deep=deep)
    opaque = np.full((48, 64, 4), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "4.png"), opaque)
    report = ReadReport()
    frames = list(read_frames(tmp_path, report=report))
    assert all(f.alpha is None and f.pixels.dtype == np.uint8 for f in frames)
    assert (report.num_flattened, report.num_rounded) == (1, 1)
    told = "; ".join(report.notices(probe(tmp_path)))
    assert "1 of 5 frames have opacity" in told
    assert "1 of 5 frames have 16 bits" in told


@pytest.mark.parametrize(("channels", "deep"), [(3, False), (4, False), (3, True), (4, True)])
def test_what_the_first_image_has_is_kept_of_all(tmp_path, channels, deep):
    write_image(tmp_path / "0.png", 0, channels=channels, deep=deep)
    write_image(tmp_path / "1.png", 1)
    report = ReadReport()
    frames = list(read_frames(tmp_path, report=report))
    assert len({(f.alpha is None, f.pixels.dtype) for f in frames}) == 1
    assert report.notices(probe(tmp_path)) == []


@pytest.mark.parametrize(("channels", "deep"), [(3, False), (4, False), (3, True), (4, True)])
def test_a_png_is_read_exactly(tmp_path, channels, deep):
    write_image(tmp_path / "a.png", 3, channels=channels, deep=deep)
    (frame,) = read_frames(tmp_path / "a.png")
    original = picture(3, channels=channels, deep=deep)
    assert np.array_equal(frame.pixels, original[..., :3])
    assert (frame.alpha is None) == (channels == 3)
    if channels == 4:
        assert np.array_equal(frame.alpha, original[..., 3])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), lambda a: a),
        ((-1, 0, 0, 0, 1, 0, 0, 0, 1), lambda a: a[:, ::-1]),
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), lambda a: np.rot90(a, 2)),
        ((0, 1, 0, -1, 0, 0, 0, 0, 1), lambda a: np.rot90(a, -1)),
        ((0, -1, 0, 1, 0, 0, 0, 0, 1), lambda a: np.rot90(a, 1)),
        ((0, 1, 0, 1, 0, 0, 0, 0, 1), lambda a: a.swapaxes(0, 1)),
    ],
)
def test_a_display_matrix_turns_and_mirrors(matrix, expected):
    image = picture(1, (6, 4))
    assert np.array_equal(orient(image, matrix), expected(image))


@pytest.fixture(scope="module")
def steady_facts(tmp_path_factory):
    return probe(make_video(tmp_path_factory.mktemp("steady") / "a.mp4"))


@given(st.integers(1, 5000), st.integers(1, 5000), st.fractions(Fraction(1, 100), 8))
def test_scaled_sides_are_the_nearest_numbers_and_halves_go_up(steady_facts, width, height, factor):
    found = replace(steady_facts, width=width, height=height).scaled(factor)
    for pixels, side in zip(found, (width, height), strict=True):
        assert pixels >= 1
        assert side * factor < Fraction(1, 2) or -1 < 2 * (pixels - side * factor) <= 1
