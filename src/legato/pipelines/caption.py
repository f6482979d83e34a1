"""A prompt for each shot: a caption of its sharpest frame."""

import gc
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import UInt8

from legato.device import return_freed_memory
from legato.pipelines.events import Event, OnEvent
from legato.pipelines.survey import Survey
from legato.pipelines.upscale_options import UpscaleOptions
from legato.video.frame import Pixels
from legato.video.images import orient
from legato.video.probe import VideoFacts
from legato.video.read import read_frames


def caption_shots(
    facts: VideoFacts,
    found: Survey,
    options: UpscaleOptions,
    *,
    device: torch.device,
    as_prompt: Callable[[str], str],
    on_event: OnEvent,
) -> list[str]:
    """Return one prompt per shot; the captioning model is let go before this returns.

    Args:
        facts: of the source.
        found: its shots, and how sharp every frame is.
        options: name the captioning model; where they name none, nothing is returned.
        device: where to compute.
        as_prompt: turns a caption into a prompt that the upscaling model understands.
        on_event: told of every shot.

    Raises:
        ModelError: the captioning model cannot be used.
        DecodeError: the source changed.
    """
    if options.caption is None:
        return []
    from legato.models.captioner import Captioner  # transformers takes a second or two

    captioner, prompts = Captioner(options.caption, device), list[str]()
    frames = sharpest_frames(found)
    for index in frames:
        on_event(Event(stage="caption", done=len(prompts), total=len(frames)))
        start = found.pts[index]
        reader = read_frames(facts.path, facts=facts, options=options.read, start_pts=start)
        prompts.append(as_prompt(captioner(shown(next(reader).pixels, facts))))
    del captioner
    gc.collect()
    return_freed_memory()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return prompts


def sharpest_frames(found: Survey) -> list[int]:
    """Return the index of each shot's frame with the most detail, the first of equals."""
    shots = pairwise([*found.shots, found.num_frames])
    return [max(range(*shot), key=lambda index: found.detail[index]) for shot in shots]


def shown(pixels: Pixels, facts: VideoFacts) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Return a stored picture as a player turns it, in 8 bits."""
    picture = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    return np.ascontiguousarray(orient(picture, facts.display_matrix))
