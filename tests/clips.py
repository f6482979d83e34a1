"""Small clips made here, and a small model of the embedded model's kind."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from tiny import NARROW, tiny_unet, tiny_upscaler_folder, tiny_video_unet

from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.upscale_options import UpscaleOptions
from legato.video.codecs import CodecOptions
from legato.video.read import ReadOptions, read_frames

SIZE = (32, 24)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a narrow model."""
    unet = tiny_video_unet(spatial=tiny_unet(**NARROW))
    return str(tiny_upscaler_folder(tmp_path_factory.mktemp("model") / "tiny", unet=unet))


@pytest.fixture
def options(tiny_model):
    """Make options for the tiny model: lossless, short segments; every flag by its name."""

    def make(**changes):
        restore = {k: changes.pop(k) for k in list(changes) if k in RestoreOptions.__annotations__}
        output = {k: changes.pop(k) for k in list(changes) if k in CodecOptions.__annotations__}
        read = {k: changes.pop(k) for k in list(changes) if k in ReadOptions.__annotations__}
        return UpscaleOptions(
            read=ReadOptions(**read),
            restore=RestoreOptions(**restore),
            output=CodecOptions(**{"codec": "ffv1"} | output),
            **{"model": tiny_model, "segment": 4} | changes,
        )

    return make


@pytest.fixture
def clip(tmp_path):
    """Write a lossless clip of a moving texture, with sound; `cut` changes the scene there."""

    def make(name="in.mkv", *, frames=10, size=SIZE, cut=None, sound=True):
        path = tmp_path / name
        write_clip(path, texture(frames, size, cut), sound=sound)
        return path

    return make


def texture(num_frames, size=SIZE, cut=None):
    """Return frames `T H W 3` of blotches that move one pixel a frame; a cut to the dark."""
    width, height = size
    generator = np.random.default_rng(3)
    noise = generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    scenes = [cv2.normalize(cv2.blur(n, (5, 5)), None, 30, 226, cv2.NORM_MINMAX) for n in noise]
    scenes[1] //= 4
    return np.stack(
        [np.roll(scenes[0 if cut is None or k < cut else 1], k, axis=1) for k in range(num_frames)]
    )


def write_clip(path: Path, frames: np.ndarray, *, sound: bool) -> None:
    """Write frames at 30000/1001 per second, losslessly, with as much sound."""
    rate = Fraction(30000, 1001)
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=rate)
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "bgr0"
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for pixels in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            for start in range(0, int(len(frames) / rate * 8000), 80):  # packets of 10 ms
                tone = av.AudioFrame.from_ndarray(
                    np.zeros((1, 80), np.int16), format="s16", layout="mono"
                )
                tone.sample_rate, tone.pts = 8000, start
                container.mux(audio.encode(tone))
            container.mux(audio.encode(None))


def pixels_of(path: Path) -> np.ndarray:
    """Return all frames of a file, `T H W 3`."""
    return np.stack([frame.pixels for frame in read_frames(path)])


def times_of(path: Path) -> list[Fraction]:
    """Return the times of all frames."""
    return [frame.time for frame in read_frames(path)]
