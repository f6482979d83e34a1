"""Make the demo's clip: two photographs in motion, damaged by severity s2, with a melody.

    python demo/make_clip.py [TARGET]

The photographs come with scikit-image (astronaut: NASA, public domain; motorcycle: Scharstein et
al. 2014). No model of Legato has seen them in training. The damage is not chosen either: it is what
severity s2 draws for the names of the shots.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import Float, UInt8
from numpy import ndarray
from skimage import data

from legato.evaluation.datasets import SCALE, SEVERITIES, degrade, seed_of

SIZE = (192, 108)
FRAME_RATE = Fraction(24)
FRAMES_PER_SHOT = 36
SAMPLE_RATE_HZ = 44100
TUNE = ((0, 4, 7), (12, 7), (9, 5), (7, 4), (5, 9, 12), (7, 11))  # semitones above A3
COLOUR = {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.MPEG}
TARGET = Path(__file__).with_name("clip.mp4")


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A camera that moves over a photograph at constant speed; the path is in its pixels."""

    name: str
    photograph: UInt8[ndarray, "H W 3"]
    start: tuple[float, float, float]
    """Left, top and width of the view in the first frame."""
    end: tuple[float, float, float]
    """The same in the last frame."""


def shots() -> tuple[Shot, Shot]:
    """Return the two shots, in order."""
    return (
        Shot(
            name="demo_astronaut",
            photograph=data.astronaut(),
            start=(12.0, 8.0, 420.0),
            end=(64.7, 21.3, 330.0),
        ),
        Shot(
            name="demo_motorcycle",
            photograph=data.stereo_motorcycle()[0],
            start=(20.0, 150.0, 500.0),
            end=(205.5, 118.4, 500.0),
        ),
    )


def film(shot: Shot) -> UInt8[ndarray, "T H W 3"]:
    """Return the clean frames of a shot, four times as large as the clip's."""
    width, height = (SCALE * side for side in SIZE)
    frames = []
    for place in np.linspace(0, 1, FRAMES_PER_SHOT):
        left, top, view = (a + place * (b - a) for a, b in zip(shot.start, shot.end, strict=True))
        zoom = view / width
        matrix = np.array([[zoom, 0, left], [0, zoom, top]])
        flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
        frames.append(cv2.warpAffine(shot.photograph, matrix, (width, height), flags=flags))
    return np.stack(frames)


def damaged(clean: UInt8[ndarray, "T H W 3"], name: str) -> UInt8[ndarray, "T h w 3"]:
    """Return a shot with s2's blur, noise and JPEG; its x264 is the one that writes the file."""
    severity = replace(SEVERITIES["s2"], crf=None)
    return degrade(clean, severity, np.random.default_rng(seed_of(name)))


def melody(seconds: float) -> Float[ndarray, "samples"]:
    """Return notes joined without a break, in [-1, 1]."""
    time = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    length = seconds / len(TUNE)
    sound = np.zeros_like(time)
    for index, chord in enumerate(TUNE):
        age = time - index * length
        envelope = np.clip(age / 0.05, 0, 1) * np.exp(-np.maximum(age, 0) / 0.6)
        for semitones in chord:
            pitch_hz = 220 * 2 ** (semitones / 12)
            tone = np.sin(2 * np.pi * pitch_hz * age) + 0.3 * np.sin(4 * np.pi * pitch_hz * age)
            sound += envelope * tone / len(chord)
    return 0.5 * sound / np.abs(sound).max()


def sound_frames(sound: Float[ndarray, "samples"]) -> Iterator[av.AudioFrame]:
    """Yield the sound in the encoder's steps of 1024 samples."""
    for start in range(0, len(sound), 1024):
        block = sound[None, start : start + 1024].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, start
        frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
        yield frame


def write(target: Path, frames: UInt8[ndarray, "T h w 3"]) -> None:
    """Write frames and melody with s2's x264; one thread and no assembly, so the bits repeat."""
    (crf, _) = SEVERITIES["s2"].crf or (26, 26)
    with av.open(str(target), "w", options={"movflags": "+faststart"}) as container:
        container.metadata["title"] = "Legato's demo clip"
        video = container.add_stream("libx264", rate=FRAME_RATE)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.thread_count = 1
        video.options = {"crf": str(crf), "preset": "medium", "x264-params": "asm=0"}
        video.codec_context.colorspace = COLOUR["dst_colorspace"]
        video.codec_context.color_range = COLOUR["dst_color_range"]
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", bit_rate=64_000)
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(video.encode(frame.reformat(format="yuv420p", **COLOUR)))
        container.mux(video.encode(None))
        for block in sound_frames(melody(float(len(frames) / FRAME_RATE))):
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def main() -> None:
    """Write the clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", type=Path, default=TARGET)
    target = parser.parse_args().target
    write(target, np.concatenate([damaged(film(shot), shot.name) for shot in shots()]))


if __name__ == "__main__":
    main()
