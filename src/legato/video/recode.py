"""A clip through a lossy encoder and back, in memory."""

from typing import Any

import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from jaxtyping import UInt8
from numpy import ndarray

from legato.video.colour import EXACT


def recoded(
    clip: UInt8[ndarray, "T H W 3"], encoder: VideoCodecContext, decoder: VideoCodecContext
) -> UInt8[ndarray, "T H W 3"]:
    """Return RGB frames as they come back from 4:2:0 video, coded and decoded in one thread.

    Args:
        clip: rows and columns even.
        encoder: with its options and time base, but not yet open; each frame lasts a tick.
        decoder: of what it writes.
    """
    encoder.height, encoder.width = clip.shape[1:3]
    encoder.pix_fmt = "yuv420p"
    encoder.thread_count = decoder.thread_count = 1
    packets: list[Any] = []
    for index, pixels in enumerate(clip):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format="yuv420p", interpolation=EXACT)
        frame.pts, frame.time_base = index, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    assert len(decoded) == len(clip), "the encoders used here neither drop nor repeat frames"
    exact = [frame.reformat(format="rgb24", interpolation=EXACT) for frame in decoded]
    return np.stack([frame.to_ndarray() for frame in exact])
