"""The stages of a generated video, all in latent space: key frames, frames between, pictures.

Blattmann et al. 2023, arXiv:2304.08818, section 3.3: a first frame by the image model (or the
user's), key frames by prediction from the last one or two, two interpolations, and the temporal
decoder. Each part is saved before the next begins.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.diffusion.anchored_statistics import AnchoredStatistics
from legato.diffusion.context import BETWEEN, every_fourth
from legato.diffusion.denoiser import Edit
from legato.diffusion.expected_motion import ExpectedMotion
from legato.diffusion.temporal_guidance import TemporalGuided
from legato.errors import ResourceError
from legato.flow.dis import DisFlow
from legato.flow.ego_motion import Corridor, Plane
from legato.flow.fusion import fuse_coarse
from legato.flow.steady import driven_frames, steady_frames
from legato.models.generator import GeneratorModel
from legato.models.micro_conditioning import ClipConditions
from legato.pipelines.clip_sampler import ClipSampler, Given
from legato.pipelines.generation_settings import Settings, num_known
from legato.pipelines.latent_track import LatentTrack
from legato.pipelines.stage_work import Progress
from legato.pipelines.timeline import Call, plan_calls
from legato.pipelines.workfolder import WorkFolder

CLIPS_TOGETHER = 8
"""Clips of five frames that an interpolation denoises in one batch."""
WHOLE = 0.99
"""Share of a latent cell's pixels that have been seen, from which on motion leads it."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One video being made."""

    model: GeneratorModel
    settings: Settings
    sampler: ClipSampler
    folder: WorkFolder
    first_frame: Float[Tensor, "3 H W"] | None
    """The user's; None: the image model makes one."""
    last_frame: Float[Tensor, "3 H W"] | None = None
    """The user's, the last of the key frames; None: it ends as it comes."""
    aiming: float = 0.0
    """How strongly key frames are led to it."""
    boxes: Float[Tensor, "1 3 h w"] | None = None
    """Maps of where it is to draw cars."""

    @cached_property
    def calls(self) -> list[Call]:
        """The clips of key frames, in order."""
        settings = self.settings
        return plan_calls(
            settings.timeline.num_key_frames,
            window=settings.window,
            context=settings.context_frames,
            known=self._num_known,
        )

    @property
    def _num_known(self) -> int:
        return num_known(self.settings, is_end_given=self.last_frame is not None)

    @cached_property
    def key_frames(self) -> LatentTrack:
        """Key frames: those that are known are the first part, if there are any."""
        starts = [0, self._num_known] if self._num_known else [0]
        bounds = [*starts, *(call.stop for call in self.calls)]
        return LatentTrack(folder=self.folder, name="key", bounds=bounds)

    @cached_property
    def frames(self) -> LatentTrack:
        """All frames' latents."""
        timeline = self.settings.timeline
        return LatentTrack(folder=self.folder, name="frame", bounds=timeline.bounds)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a frame's latents."""
        scale, settings = self.model.scale, self.settings
        return self.model.latent_channels, settings.height // scale, settings.width // scale

    @property
    def latent_bytes(self) -> int:
        """Bytes of all latents on the disk, in float32."""
        timeline = self.settings.timeline
        return 4 * math.prod(self.shape) * (timeline.num_key_frames + timeline.num_latents)

    def make_key_frames(self, part: int, progress: Progress) -> None:
        """Make a part of the key frames from the parts before it, and save it."""
        track, first = self.key_frames, self.key_frames.bounds[part]
        if part == 0 and self.settings.start == "image":
            ends = [self._image(progress), *self._ending()]
            track.write(part, torch.cat(ends[: self._num_known]))
            return
        settings = self.settings
        call = self.calls[part - (settings.start == "image")]
        num_frames = call.stop - call.first
        latents = torch.zeros(num_frames, *self.shape)
        if call.num_given:
            latents[: call.num_given] = track.read(call.first, call.first + call.num_given)
        aims = None
        for ending in self._ending():
            aims = torch.arange(num_frames) == settings.timeline.num_key_frames - 1 - call.first
            latents[aims] = ending
        made = self.sampler(
            self._guided(),
            Given(
                latents=latents[None],
                mask=torch.arange(num_frames) < call.num_given,
                ticks=[range(call.first, call.stop)],
                purpose="key frames",
                guidance=settings.context_guidance,
                edits=self._edits(call, latents),
                aims=aims,
                aiming=self.aiming,
            ),
            told=ClipConditions(
                frame_rate=self._rate(after=0),
                noise_level=torch.tensor(settings.context_noise),
                window=settings.attention_window,
            ),
            on_pass=Spread(progress, first, call.stop - first),
        )
        track.write(part, finite(made[0, call.num_given :], self.sampler.dtype))

    def make_between(self, part: int, progress: Progress) -> None:
        """Make the frames between a part's key frames, pass after pass, and save them."""
        timeline = self.settings.timeline
        first, last = timeline.parts[part]
        latents = self.key_frames.read(first, last + 1)
        start = first
        passes = timeline.interpolations if last > first else 0
        begin, end = self.frames.bounds[part], self.frames.bounds[part + 1]
        for stage in range(passes):
            share = (end - begin) / passes
            spread = Spread(progress, begin + stage * share, share)
            latents = self._interpolate(latents, start=start, stage=stage, on_pass=spread)
            start *= BETWEEN
        is_last = part == len(timeline.parts) - 1
        self.frames.write(part, latents if is_last else latents[:-1])

    def decode(self, first: int, stop: int) -> Iterator[Float[Tensor, "t 3 H W"]]:
        """Yield the pictures of frames first..stop-1, a few at a time.

        Every window is decoded and fused with the frames around it, which are dropped, so that how
        the video is cut does not show. Key frames alone are too far apart to be fused.

        Args:
            first: a multiple of the decoder's window.
            stop: a multiple of it, or the end of the video.
        """
        defaults, timeline = self.model.defaults, self.settings.timeline
        passes = defaults.decoder_fusion if timeline.interpolations else 0
        context, end = defaults.decoder_context + passes, timeline.num_latents
        for start in range(first, stop, defaults.decoder_window):
            after = min(start + defaults.decoder_window, stop)
            low = max(start - context, 0)
            high = min(start + defaults.decoder_window + context, end)
            latents = self.frames.read(low, high)[None].to(self.sampler.device)
            pictures = finite(self.model.decode(latents)[0].cpu(), self.sampler.dtype)
            if passes:
                pictures = fuse_coarse(pictures, passes=passes, finer_px=self.model.scale / 2)
            yield pictures[start - low : after - low]

    def _guided(self) -> TemporalGuided:
        """Return what denoises key frames."""
        sampler = self.sampler
        return TemporalGuided.in_share(
            self.model.unet,
            scale=self.settings.temporal_guidance,
            share=self.settings.temporal_share,
            timesteps=sampler.schedule.timesteps(sampler.num_inference_steps),
        )

    def _edits(self, call: Call, latents: Float[Tensor, "T C h w"]) -> list[Edit]:
        """Return what leads a clip on from those before it, whose last frames it begins with."""
        settings, edits = self.settings, list[Edit]()
        shows_motion = call.num_given == 2 or (call.num_given == 1 and settings.speed)
        if settings.motion_guidance and shows_motion:
            edits.append(
                expected_motion(
                    self.model,
                    latents[: call.num_given],
                    len(latents),
                    weight=settings.motion_guidance,
                    share=settings.motion_share,
                    metres=settings.speed / float(self._rate(after=0)),
                )
            )
        return [*edits, *self.anchors(call)]

    def anchors(self, call: Call) -> list[Edit]:
        """Return what holds a later clip to the colours and contrast of the first."""
        weight = self.settings.anchoring
        if not weight or call.first == 0:
            return []
        anchor = self.key_frames.read(0, self.settings.window)
        return [AnchoredStatistics.of(anchor, weight=weight)]

    def _image(self, progress: Progress) -> Float[Tensor, "1 C h w"]:
        """Return the latents of the first frame: the user's, or one of the image model."""
        if self.first_frame is not None:
            return self._encoded(self.first_frame)
        with self._told_of_boxes(), self.model.unet.disabled():
            made = self.sampler(
                self.model.unet,
                Given(
                    latents=torch.zeros(1, 1, *self.shape),
                    mask=torch.zeros(1, dtype=torch.bool),
                    ticks=[[0]],
                    purpose="key frames",
                ),
                told=ClipConditions(),
                on_pass=progress,
            )
        return finite(made[0], self.sampler.dtype)

    def _ending(self) -> list[Float[Tensor, "1 C h w"]]:
        """Return the latents of the last frame, if it is given."""
        return [] if self.last_frame is None else [self._encoded(self.last_frame)]

    def _encoded(self, picture: Float[Tensor, "3 H W"]) -> Float[Tensor, "1 C h w"]:
        return self.model.encode(picture[None, None].to(self.sampler.device))[0].cpu()

    def _told_of_boxes(self) -> AbstractContextManager[None]:
        layout = self.model.layout
        if self.boxes is None or layout is None:
            return nullcontext()
        return layout.given(self.model.unet.spatial, self.boxes.to(self.sampler.device))

    def _interpolate(
        self,
        latents: Float[Tensor, "n C h w"],
        *,
        start: int,
        stage: int,
        on_pass: Progress,
    ) -> Float[Tensor, "m C h w"]:
        """Put three frames between every two; those given stand untouched at every fourth place.

        Args:
            latents: consecutive frames of the stage before.
            start: number of the first one at that stage.
            stage: counted from 0.
            on_pass: told the share of the work that is done.
        """
        network = self.model.interpolation
        assert network is not None
        mask = every_fourth(BETWEEN + 1)
        # the given frames say all that the text could
        steps = self.settings.interpolation_steps
        sampler = replace(self.sampler, guidance_scale=1.0, num_inference_steps=steps)
        if self.model.interpolation_is_own and sampler.temporal_prompt is not None:
            sampler = replace(sampler, prompt=sampler.temporal_prompt)
        pairs = torch.stack((latents[:-1], latents[1:]), dim=1)
        between = []
        for at in range(0, len(pairs), CLIPS_TOGETHER):
            some = pairs[at : at + CLIPS_TOGETHER]
            clips = torch.zeros(len(some), BETWEEN + 1, *self.shape)
            clips[:, mask] = some
            firsts = [BETWEEN * (start + at + k) for k in range(len(some))]
            made = sampler(
                network,
                Given(
                    latents=clips,
                    mask=mask,
                    ticks=[range(first, first + BETWEEN + 1) for first in firsts],
                    purpose=f"interpolation {stage}",
                    start=self.settings.interpolation_start,
                ),
                told=ClipConditions(
                    frame_rate=self._rate(after=stage + 1),
                    stage=torch.tensor(stage),
                    noise_level=torch.tensor(0),
                ),
                on_pass=Spread(on_pass, at / len(pairs), len(some) / len(pairs)),
            )
            between.append(finite(made[:, :-1], sampler.dtype))
        filled = rearrange(torch.cat(between), "n t c h w -> (n t) c h w")
        return torch.cat((filled, latents[-1:]))

    def _rate(self, *, after: int) -> Float[Tensor, ""]:
        """Return the frames per second after so many interpolations."""
        left = self.settings.timeline.interpolations - after
        return torch.tensor(float(self.settings.frame_rate) / BETWEEN**left)


@dataclass(frozen=True, slots=True)
class Spread:
    """Tells a share of a part as a share of the whole."""

    progress: Progress
    begin: float | int
    size: float | int

    def __call__(self, share: float | int) -> None:
        """Tell how far the part is."""
        self.progress(self.begin + share * self.size)


def expected_motion(
    model: GeneratorModel,
    given: Float[Tensor, "g C h w"],
    num_frames: int,
    *,
    weight: float,
    share: float,
    metres: float,
) -> ExpectedMotion:
    """Return the edit that leads a clip to where its two frames were going, or one drives on.

    Where that comes from outside the picture, nothing leads.

    Args:
        model: decodes them, and encodes what steady motion would show after them.
        given: latents of the two, or of one.
        num_frames: of the clip.
        weight: how strongly, 0..1.
        share: of the steps.
        metres: that the camera drives on from frame to frame after a single one.
    """
    device, left = model.unet.device, num_frames - len(given)
    known = model.decode(given[None].to(device))[0].clamp(-1, 1)
    if len(given) == 2:
        around = Corridor() if model.defaults.speed else Plane()
        steady, seen = steady_frames(known, left, DisFlow(), around)
    else:
        steady, seen = driven_frames(known, left, metres)
    whole = F.avg_pool2d(torch.cat((torch.ones_like(known[:, :1]), seen)), model.scale) > WHOLE
    return ExpectedMotion(
        expected=model.encode(torch.cat((known, steady))[None]),
        weight=weight * whole[None].float(),
        share=share,
    )


def missing_parts(track: LatentTrack) -> list[int]:
    """Return the parts of a track that are not written, in order."""
    return [part for part, _ in enumerate(pairwise(track.bounds)) if not track.has(part)]


def finite(x: Float[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """Return x.

    Args:
        x: what a model gave.
        dtype: precision in which it computed.

    Raises:
        ResourceError: it holds NaN or infinity.
    """
    if torch.isfinite(x).all():
        return x
    what, why = "the model gave NaN or infinity", "its weights are damaged"
    if dtype == torch.float32:
        why, fix = f"{why}, or guided too strongly", "use other weights, or less guidance"
    else:
        why, fix = f"its numbers do not fit {dtype}, or {why}", "repeat with --dtype float32"
    raise ResourceError(what, why=why.replace("torch.", ""), fix=f"{fix}, with --restart")
