"""Small video files of every kind, made on the spot."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from legato.video.codecs import CodecOptions, choose_codec, segment_suffix
from legato.video.probe import probe
from legato.video.read import read_frames
from legato.video.streams import join
from legato.video.write import VideoWriter

TICK, RATE = Fraction(1, 30_000), Fraction(30_000, 1001)
STEADY = tuple(i * 1001 for i in range(12))


def picture(index, size=(64, 48), *, channels=3, deep=False):
    """A smooth moving pattern, `H W C`."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    waves = [
        128 + 90 * np.sin(x / 9 + index / 3),
        128 + 90 * np.cos(y / 7 + index / 5),
        128 + 70 * np.sin((x + y) / 11 - index / 4),
        128 + 127 * np.sin((x - y) / 13 + index / 2),
    ]
    values = np.stack(waves[:channels], axis=-1)
    return np.rint(values * 257).astype(np.uint16) if deep else np.rint(values).astype(np.uint8)


def make_video(path, *, pts=STEADY, time_base=TICK, size=(64, 48), **kwargs):
    """Write a file with PyAV alone.

    Further settings: `codec`, `pixel_format`, `options`, `container_options`, `with_others`,
    `rotation`, `aspect`, `gop`, `flags` (of the encoder), `tags` (matrix, primaries, transfer,
    range).
    """
    codec = kwargs.get("codec", "libx264")
    pixel_format = kwargs.get("pixel_format", "yuv420p")
    muxing = kwargs.get("container_options", {})
    with av.open(str(path), "w", container_options=muxing) as container:
        stream = container.add_stream(
            codec,
            rate=Fraction(30_000, 1001),
            options=kwargs.get("options", {}),
            width=size[0],
            height=size[1],
        )
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = kwargs.get("gop", 5)
        if "aspect" in kwargs:
            stream.codec_context.sample_aspect_ratio = kwargs["aspect"]
        if "rotation" in kwargs:
            stream.set_display_rotation(kwargs["rotation"])
        if "tags" in kwargs:
            context = stream.codec_context
            context.colorspace, context.color_primaries = kwargs["tags"][:2]
            context.color_trc, context.color_range = kwargs["tags"][2:]
        stream.codec_context.flags |= kwargs.get("flags", 0)
        others = _add_others(container) if kwargs.get("with_others") else None
        channels = 4 if "a" in pixel_format.removeprefix("gray") else 3
        for index, time in enumerate(pts):
            name = "rgba" if channels == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(picture(index, size, channels=channels), name)
            frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if others:
            _write_others(container, others, seconds=float(max(pts) * time_base))
    return Path(path)


def _add_others(container):
    container.metadata["title"] = "A title"
    container.set_chapters(
        [
            {
                "id": n,
                "start": n * 200,
                "end": (n + 1) * 200,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": f"Chapter {n}"},
            }
            for n in range(2)
        ]
    )
    sound = container.add_stream("flac", rate=16_000)
    sound.codec_context.layout = "mono"
    sound.metadata["language"] = "eng"
    text = container.add_stream("subrip")
    text.codec_context.subtitle_header = b""
    text.metadata["language"] = "deu"
    container.add_attachment("font.ttf", "font/ttf", b"not a font")
    return sound, text


def _write_others(container, streams, *, seconds):
    sound, text = streams
    samples = np.sin(np.arange(int(16_000 * (seconds + 0.03))) / 20) * 8000
    for start in range(0, len(samples), 1024):
        block = samples[start : start + 1024].astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
        container.mux(sound.encode(frame))
    container.mux(sound.encode(None))
    packet = av.Packet("Grüße".encode())
    packet.stream, packet.time_base = text, Fraction(1, 1000)
    packet.pts = packet.dts = 100
    packet.duration = 200
    container.mux(packet)


def doubled(array):
    """Twice as many rows and columns: the test's upscaler."""
    return array.repeat(2, axis=0).repeat(2, axis=1)


def upscale(source, target, *, codec="auto", segment=5, start=None, end=None):
    """Read, double, write segments and join: what a job does, in small."""
    facts = probe(source)
    options = choose_codec(target, CodecOptions(codec=codec), facts.kind)
    frames = [
        f
        for f in read_frames(source, facts=facts)
        if (start is None or f.time >= start) and (end is None or f.time < end)
    ]
    segments, notices = [], []
    for first in range(0, len(frames), segment):
        name = f"segment_{first:04d}{segment_suffix(options, facts)}"
        segments.append(target.parent / f"{target.name}_work" / name)
        segments[-1].parent.mkdir(exist_ok=True)
        size = (2 * facts.width, 2 * facts.height)
        with VideoWriter(
            segments[-1], size=size, time_base=facts.time_base, options=options, facts=facts
        ) as writer:
            for frame in frames[first : first + segment]:
                alpha = None if frame.alpha is None else doubled(frame.alpha)
                writer.write(doubled(frame.pixels), pts=frame.pts, alpha=alpha)
        notices = writer.notices
    report = join(segments, target, source=source, facts=facts, start=start, end=end)
    report.notices.extend(notices)
    return report
