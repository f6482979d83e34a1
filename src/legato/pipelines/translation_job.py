"""A translated video as a job: batches of key frames, then segments of all frames."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.anchors import Anchors
from legato.pipelines.carried import Carried
from legato.pipelines.colourise import colourise
from legato.pipelines.deliver import Delivery, range_of
from legato.pipelines.events import OnEvent
from legato.pipelines.frame_buffer import FrameBuffer
from legato.pipelines.generation import finite, missing_parts
from legato.pipelines.hints import Hints
from legato.pipelines.in_between import Interpolator, Look, Picture, fill
from legato.pipelines.keyframe_reader import KeyframeReader, eight_bits, frames_from
from legato.pipelines.keyframe_sampler import KeyframeSampler
from legato.pipelines.latent_track import LatentTrack
from legato.pipelines.pictures import to_model, to_size, write_picture
from legato.pipelines.report import TranslationReport, versions
from legato.pipelines.run_options import RunOptions
from legato.pipelines.segments import Segment
from legato.pipelines.stage_work import Progress, StageWork
from legato.pipelines.translate_options import TranslateOptions
from legato.pipelines.translation_plan import PromptedBatch, TranslationPlan
from legato.pipelines.workfolder import WorkFolder
from legato.video.codecs import CodecOptions
from legato.video.frame import Frame
from legato.video.probe import VideoFacts
from legato.video.write import VideoWriter


@dataclass(kw_only=True)
class TranslationJob:
    """One source on its way to one output."""

    facts: VideoFacts
    options: TranslateOptions
    run: RunOptions
    on_event: OnEvent
    plan: TranslationPlan
    folder: WorkFolder
    sampler: KeyframeSampler
    hints: Hints | None
    """What a ControlNet is shown; None: there is none."""
    interpolate: Interpolator
    codec: CodecOptions
    size_computed: tuple[int, int]
    """Width and height of the pictures that the model works on."""
    notices: list[str] = field(default_factory=list)

    @cached_property
    def batches(self) -> list[PromptedBatch]:
        """What is denoised together, in order."""
        return self.plan.batches(
            self.options.batch_size, self.options.prompts(), time_base=self.facts.time_base
        )

    @cached_property
    def key_frames(self) -> LatentTrack:
        """Clean latents of all key frames; a part is a batch."""
        counts = (len(each.batch.new) for each in self.batches)
        bounds = [0, *accumulate(counts)]
        return LatentTrack(folder=self.folder, name="keys", bounds=bounds)

    @cached_property
    def segments(self) -> list[Segment]:
        """What is written together."""
        return self.plan.segments(self.options.segment)

    def stages(self) -> Iterator[StageWork]:
        """Yield what is to be done; each is looked at when the one before is finished."""
        reader = KeyframeReader(self._open_at, self.plan.survey.pts)
        yield StageWork(
            name="keyframes",
            num_parts=len(self.batches),
            missing=missing_parts(self.key_frames),
            total=len(self.plan.all_keys),
            make=lambda part, progress: self._make_keys(part, reader, progress),
        )
        missing = [segment.index for segment in self.folder.missing(self.segments)]
        first = self.segments[missing[0]].first if missing else 0
        frames = FrameBuffer(self._open_at(first), self.plan.survey.pts, first=first)
        yield StageWork(
            name="interpolate",
            num_parts=len(self.segments),
            missing=missing,
            total=self.plan.survey.num_frames,
            make=lambda part, progress: self._write(self.segments[part], frames, progress),
        )

    def _open_at(self, first: int) -> Iterator[Frame]:
        return frames_from(self.facts, self.options.read, self.plan.survey, first)

    def _make_keys(self, part: int, reader: KeyframeReader, progress: Progress) -> None:
        """Translate one batch; its state is saved first, its latents make it finished."""
        each, begin = self.batches[part], self.key_frames.bounds[part]
        known, batch = self.folder.state(part - 1), each.batch
        width, height = self.size_computed
        frames = reader.take(sorted(set(batch.frames)))
        shown = {
            index: to_size(to_model([frame]), (width, height))
            for index, frame in zip(sorted(set(batch.frames)), frames, strict=True)
        }
        anchors = None if each.starts_shot else _anchors(Carried.load(known))
        pictures = torch.cat([shown[index] for index in batch.frames])
        latents, recorder = self.sampler(
            pictures,
            [self.plan.survey.pts[index] for index in batch.frames],
            each.prompt,
            anchors=anchors,
            on_pass=lambda share: progress(begin + share * len(batch.new)),
            maps=None if self.hints is None else self.hints(pictures, batch.frames),
        )
        steps = {f"step/{step}": ends for step, ends in recorder.latents.items()}
        Carried(position=batch.frames[-1], tensors=steps).save(self.folder.state(part))
        self.key_frames.write(part, latents[batch.num_anchors :])
        known.unlink(missing_ok=True)

    def _write(self, segment: Segment, buffer: FrameBuffer, progress: Progress) -> None:
        """Decode the key frames of a segment, fill what lies between, and encode all of it."""
        keys, ordinals = self._keys_of(segment)
        stop = max(segment.stop, keys[-1] + 1)
        read: deque[Frame] = deque()

        def source() -> Iterator[Picture]:
            for index in range(segment.first, stop):
                read.append(buffer.take(index, index + 1)[0])
                yield eight_bits(read[-1])

        looks = (self._look(ordinal) for ordinal in ordinals)
        filled = fill(source(), [key - segment.first for key in keys], looks, self.interpolate)
        with VideoWriter(
            self.folder.segment(segment.index),
            size=(self.facts.width, self.facts.height),
            time_base=self.facts.time_base,
            options=self.codec,
            facts=self.facts,
        ) as writer:
            for done, look in enumerate(islice(filled, len(segment)), start=1):
                frame = read.popleft()
                write_picture(writer, frame, self._finished(look, frame))
                progress(segment.first + done)

    def _keys_of(self, segment: Segment) -> tuple[list[int], list[int]]:
        """Return the key frames of a segment and their ordinals, with the one that follows it."""
        inside = [
            (key, ordinal)
            for ordinal, key in enumerate(self.plan.all_keys)
            if segment.first <= key <= segment.stop and key < segment.shot_stop
        ]
        return [key for key, _ in inside], [ordinal for _, ordinal in inside]

    def _look(self, ordinal: int) -> Look:
        """Return a translated key frame at the source's size, RGB in [0, 1]."""
        latents = self.key_frames.read(ordinal, ordinal + 1).to(self.sampler.device)
        made = self.sampler.model.decode(latents[None])[0].cpu()
        picture = finite(made, self.sampler.dtype)
        size = (self.facts.width, self.facts.height)
        unit = ((to_size(picture, size)[0] + 1) / 2).clamp(0, 1)
        return np.ascontiguousarray(unit.permute(1, 2, 0).numpy())

    def _finished(self, look: Look, frame: Frame) -> Float[Tensor, "3 H W"]:
        translated = torch.from_numpy(look).permute(2, 0, 1) * 2 - 1
        if not self.options.colorize:
            return translated
        return colourise(translated[None], to_model([frame]))[0]

    def report(
        self, target: Path, delivery: Delivery, stages: dict[str, float], num_resumed: int
    ) -> TranslationReport:
        """Return what was done; `seconds` is left to the caller."""
        survey, model = self.plan.survey, self.sampler.model
        duration = float((survey.pts[-1] - survey.pts[0]) * self.facts.time_base)
        return TranslationReport(
            source=str(self.facts.path),
            target=str(target),
            frames_in=delivery.kept.num_frames_source,
            frames_out=delivery.kept.num_frames_target,
            frames_repeated=survey.num_repeated,
            key_frames=len(self.plan.all_keys),
            batches=len(self.batches),
            size=(self.facts.width, self.facts.height),
            size_computed=self.size_computed,
            duration=duration,
            range=range_of((survey.start, survey.end)),
            shots=len(survey.shots),
            parts_resumed=num_resumed,
            streams=delivery.stream_fates,
            notices=list(dict.fromkeys([*self.notices, *delivery.notices])),
            differences=list(delivery.kept.differences),
            seconds=0.0,
            seconds_of_stages=stages,
            options=self.options.to_json(),
            model={"name": model.name, "licence": model.licence, "sha256": model.sha256},
            device=str(self.sampler.device),
            dtype=str(self.sampler.dtype).removeprefix("torch."),
            versions=versions(),
        )


def _anchors(state: Carried) -> Anchors:
    latents = {int(step): ends for step, ends in state.within("step").items()}
    return Anchors(stop=2, latents=latents)
