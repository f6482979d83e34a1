"""Segments joined to what is no video file: a folder of PNG, one image, or a GIF."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.filter
from av.video.frame import VideoFrame

from legato.errors import DecodeError
from legato.video.clock import round_times
from legato.video.codecs import encoder_rate
from legato.video.icc import with_profile
from legato.video.images import encode_image, orient, read_image, read_profile
from legato.video.probe import STILLS_RATE, VideoFacts
from legato.video.segments import segment_packets

GIF_TICK = Fraction(1, 100)


def join_stills(
    segments: Sequence[Path], temporary: Path, *, target: Path, facts: VideoFacts
) -> int:
    """Gather the segments' PNG in one folder, or make the one image that `target` names.

    A folder's files are named after the source's images, of which a part may be there, or numbered;
    returns how many there are.
    """
    files = sorted((f for s in segments for f in s.glob("*.png")), key=lambda f: int(f.stem))
    if facts.kind == "image" and target.suffix and not target.is_dir():
        suffix = target.suffix.lower()
        is_png = suffix == ".png"
        image = files[0].read_bytes() if is_png else encode_image(*read_image(files[0]), suffix)
        temporary.write_bytes(with_profile(image, facts.icc_profile, suffix))
        return len(files)
    temporary.mkdir()
    profiles = _profiles(files, facts)
    for number, (file, profile) in enumerate(zip(files, profiles, strict=True)):
        still = temporary / _still_name(number, _place(file, facts), facts)
        if facts.display_matrix:  # a PNG cannot ask to be turned
            pixels, alpha = read_image(file)
            turned = None if alpha is None else orient(alpha, facts.display_matrix)
            image = encode_image(orient(pixels, facts.display_matrix), turned, ".png")
        else:
            image = file.read_bytes()
        still.write_bytes(with_profile(image, profile, ".png"))
    return len(files)


def _profiles(files: Sequence[Path], facts: VideoFacts) -> Iterator[bytes | None]:
    """Yield the colour profile of the source's image that each picture, named by its time, is of.

    A picture that stands in for a lost image has the profile of the last good one.
    """
    images = facts.images or ((facts.path,) if facts.kind == "image" else ())
    profile = None
    for file in files:
        place = _place(file, facts)
        if 0 <= place < len(images):
            with contextlib.suppress(DecodeError):
                profile = read_profile(images[place])
        yield profile


def _place(file: Path, facts: VideoFacts) -> int:
    """Return which of the source's images a picture, named by its time, is of."""
    return round(int(file.stem) * facts.time_base * STILLS_RATE)


def _still_name(number: int, place: int, facts: VideoFacts) -> str:
    """Return the name of a picture, of which the source's image is known and its number here."""
    stems = [image.stem for image in facts.images or (facts.path,)]
    is_numbered = facts.kind == "video" or (facts.kind == "images" and not facts.images)
    if is_numbered or len(set(stems)) < len(stems):
        return f"frame_{number + 1:06d}.png"
    return f"{stems[place if facts.images else 0]}.png"


def join_gif(
    segments: Sequence[Path], temporary: Path, *, facts: VideoFacts, origin: Fraction
) -> int:
    """Code lossless segments as a looping GIF with a palette of its own for each frame."""
    count = 0
    with av.open(f"file:{temporary}", "w", format="gif") as output:
        stream = output.add_stream("gif", rate=encoder_rate(facts.frame_rate))
        stream.codec_context.time_base = stream.time_base = GIF_TICK
        upright = (_upright(frame, facts) for _, frame in _decoded(segments, facts))
        pictures = _with_palettes(upright)
        times = (pts * facts.time_base - origin for pts, _ in _decoded(segments, facts))
        timed = round_times(((time, None) for time in times), GIF_TICK)
        for (ticks, _), picture in zip(timed, pictures, strict=True):
            if not count:
                stream.width, stream.height = picture.width, picture.height
                stream.codec_context.sample_aspect_ratio = shown_aspect(facts)
                stream.pix_fmt = picture.format.name
            picture.pts, picture.time_base = ticks, GIF_TICK
            output.mux(stream.encode(picture))
            count += 1
        output.mux(stream.encode(None))
    return count


def _decoded(segments: Sequence[Path], facts: VideoFacts) -> Iterator[tuple[int, VideoFrame]]:
    """Yield the segments' pictures; every packet of a lossless segment is one picture."""
    for segment in segments:
        for pts, packet in segment_packets([segment], facts):
            for frame in packet.decode():
                yield pts, frame


def _upright(frame: VideoFrame, facts: VideoFacts) -> VideoFrame:
    """Return a picture turned as its source asks, which a GIF cannot."""
    if not facts.display_matrix:
        return frame
    packed = frame.to_ndarray(format="rgba")
    return VideoFrame.from_ndarray(orient(packed, facts.display_matrix), "rgba")


def shown_aspect(facts: VideoFacts) -> Fraction:
    """Return the pixels' width over height after the source's turn."""
    sideways = facts.rotation_deg % 180 == 90
    return 1 / facts.sample_aspect if sideways else facts.sample_aspect


def _with_palettes(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield each picture reduced to its own best 256 colours, dithered."""
    graph: av.filter.Graph | None = None
    for frame in frames:
        if graph is None:
            graph = _palette_graph(frame)
        graph.vpush(frame)
        yield graph.vpull()


def _palette_graph(frame: VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=GIF_TICK
    )
    split = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=single")
    use, sink = graph.add("paletteuse", "new=1:dither=sierra2_4a"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
