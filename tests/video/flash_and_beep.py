"""Recordings that show whether sound and picture are together: one flash, one beep."""

from fractions import Fraction

import av
import numpy as np

from legato.video.read import read_frames

FRAMES, RATE, SAMPLES = 50, 25, 48_000
FLASH_SECONDS = Fraction(6, 5)


def recording(path, *, video="libx264", sound="aac", has_flash=True, longer=0, missing=()):
    """Two seconds of black; at 1.2 s one tenth of a second is white and beeps.

    Args:
        path: its suffix tells the container.
        video: the picture's encoder.
        sound: the sound's encoder.
        has_flash: whether there are flash and beep.
        longer: blocks of sound behind the last picture.
        missing: begin and end, in seconds, of stretches without sound.
    """
    form = {".mpg": "vob"}.get(path.suffix)
    with av.open(str(path), "w", format=form) as container:
        pictures = container.add_stream(video, rate=RATE, width=64, height=48)
        pictures.pix_fmt = "yuv420p"
        heard = container.add_stream(sound, rate=SAMPLES, layout="mono")
        block, num_written = heard.codec_context.frame_size or 1152, 0
        for index in range(FRAMES):
            is_lit = has_flash and 0 <= Fraction(index, RATE) - FLASH_SECONDS < Fraction(1, 10)
            pixels = np.full((48, 64, 3), 255 * is_lit, np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            extra = longer * block if index == FRAMES - 1 else 0
            while num_written < (index + 1) * SAMPLES // RATE + extra:
                place = np.arange(num_written, num_written + block)
                since = place / SAMPLES - float(FLASH_SECONDS)
                beep = 20_000 * np.sin(place / 5) * (has_flash & (since >= 0) & (since < 0.1))
                frame = av.AudioFrame.from_ndarray(beep.astype(np.int16)[None], "s16", "mono")
                frame.sample_rate, frame.pts = SAMPLES, num_written
                frame.time_base = Fraction(1, SAMPLES)
                if not any(a <= num_written / SAMPLES < b for a, b in missing):
                    container.mux(heard.encode(frame))
                num_written += block
        container.mux(pictures.encode(None))
        container.mux(heard.encode(None))
    return path


def seen(path):
    """Seconds at which the picture first turns white."""
    return next(float(f.time) for f in read_frames(path) if f.pixels.mean() > 128)


def heard(path):
    """Seconds at which the sound first beeps."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLES)
        for frame in container.decode(audio=0):
            for block in resampler.resample(frame):
                loud = np.flatnonzero(np.abs(block.to_ndarray()[0]) > 0.2)
                if len(loud):
                    return float(frame.pts * frame.time_base) + loud[0] / SAMPLES
    raise AssertionError("no beep")
