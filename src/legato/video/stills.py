"""Segments joined to what is no video file: a folder of PNG, one image, or a GIF."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.filter
from av.video.frame import VideoFrame

from legato.video.clock import round_times
from legato.video.codecs import encoder_rate
from legato.video.images import encode_image, orient, read_image
from legato.video.probe import VideoFacts
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
        if target.suffix.lower() == ".png":
            shutil.copyfile(files[0], temporary)
        else:
            temporary.write_bytes(encode_image(*read_image(files[0]), target.suffix.lower()))
        return len(files)
    temporary.mkdir()
    for number, file in enumerate(files):
        still = temporary / _still_name(number, int(file.stem), facts)
        if facts.display_matrix:  # a PNG cannot ask to be turned
            pixels, alpha = read_image(file)
            turned = None if alpha is None else orient(alpha, facts.display_matrix)
            still.write_bytes(encode_image(orient(pixels, facts.display_matrix), turned, ".png"))
        else:
            shutil.copyfile(file, still)
    return len(files)


def _still_name(number: int, tick: int, facts: VideoFacts) -> str:
    """Return the name of a picture; the tick of one of a folder of images is that one's index."""
    stems = [image.stem for image in facts.images or (facts.path,)]
    is_numbered = facts.kind == "video" or (facts.kind == "images" and not facts.images)
    if is_numbered or len(set(stems)) < len(stems):
        return f"frame_{number + 1:06d}.png"
    return f"{stems[tick if facts.images else 0]}.png"


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
