"""A generated video as a job: its parts, what is finished of them, and the file that they make."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import legato
from legato.errors import InputError
from legato.models.generator import GeneratorModel
from legato.models.spec import find_folder
from legato.pipelines.events import OnEvent, Stage
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation import Generation, missing_parts
from legato.pipelines.generation_settings import Settings
from legato.pipelines.latent_track import LatentTrack
from legato.pipelines.pictures import to_pixels
from legato.pipelines.report import GenerationReport, versions
from legato.pipelines.run_options import RunOptions
from legato.pipelines.saved_plan import (
    as_flag,
    folder_fingerprint,
    require_same,
    source_fingerprint,
)
from legato.pipelines.segments import Segment, cut_segments
from legato.pipelines.stage_work import Progress, StageWork
from legato.pipelines.workfolder import WorkFolder, write_json
from legato.video.codecs import CodecOptions
from legato.video.probe import VideoFacts, probe
from legato.video.streams import join
from legato.video.write import VideoWriter


@dataclass(kw_only=True)
class GenerationJob:
    """One video on its way."""

    prompt: str
    target: Path
    options: GenerateOptions
    run: RunOptions
    on_event: OnEvent
    model: GeneratorModel
    settings: Settings
    generation: Generation
    folder: WorkFolder
    facts: VideoFacts
    codec: CodecOptions
    """Of what is decoded."""
    device: torch.device
    dtype: str
    notices: list[str] = field(default_factory=list)

    def require_same(self) -> None:
        """Write the plan, or compare it with that of the interrupted run.

        Raises:
            InputError: another job's work lies there.
        """
        fingerprint = {
            "prompt": self.prompt,
            "legato": legato.__version__,
            "device": self.device.type,
            "dtype": self.dtype,
            "model name": self.model.name,
            "model sha256": self.model.sha256,
            **self.options.to_json(),
        }
        for name, path in self.options.files.items():
            found = source_fingerprint(path.expanduser())
            fingerprint |= {f"{name} {key}": value for key, value in found.items()}
        if self.options.spatial is not None:
            fingerprint |= folder_fingerprint("spatial", find_folder(self.options.spatial))
        if self.settings.upsampler is not None:
            upsampler = find_folder(self.settings.upsampler)
            fingerprint |= folder_fingerprint("upsampler", upsampler)
        try:
            text = self.folder.plan.read_text(encoding="utf-8", errors="surrogateescape")
            saved = json.loads(text)["generate"]
        except FileNotFoundError:
            write_json(self.folder.plan, {"generate": fingerprint})
            return
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.folder.plan}: not the plan of a generated video",
                why="an unfinished job of another kind, or a damaged file, lies here",
                fix="use --restart to begin anew",
            ) from error
        tell = partial(as_flag, words=["prompt"])
        require_same(saved, fingerprint, self.folder.path, tell=tell)

    def segments(self) -> list[Segment]:
        """Return the parts that are decoded, whole windows of the decoder."""
        window = self.model.defaults.decoder_window
        size = -(-self.options.segment // window) * window
        return cut_segments(self.settings.timeline.num_frames, [0], size=size)

    def stages(self) -> Iterator[StageWork]:
        """Yield what is to be done; each is looked at when the one before is finished."""
        made, timeline = self.generation, self.settings.timeline
        latent: list[tuple[Stage, LatentTrack, Callable[[int, Progress], None]]] = [
            ("keyframes", made.key_frames, made.make_key_frames),
            ("interpolate", made.frames, made.make_between),
        ]
        for name, track, make in latent:
            bounds = list(pairwise(track.bounds))
            yield StageWork(
                name=name,
                num_parts=len(bounds),
                missing=missing_parts(track),
                total=track.bounds[-1],
                make=make,
            )
        segments = self.segments()
        yield StageWork(
            name="decode",
            num_parts=len(segments),
            missing=[segment.index for segment in self.folder.missing(segments)],
            total=timeline.num_frames,
            make=lambda index, progress: self._decode(segments[index], progress),
        )

    def _decode(self, segment: Segment, progress: Progress) -> None:
        ticks = self.settings.frame_rate.denominator
        with VideoWriter(
            self.folder.segment(segment.index),
            size=(self.facts.width, self.facts.height),
            time_base=self.facts.time_base,
            options=self.codec,
            facts=self.facts,
        ) as writer:
            index = segment.first
            for pictures in self.generation.decode(segment.first, segment.stop):
                for picture in pictures:
                    pixels = to_pixels(picture, np.dtype(np.uint8))
                    writer.write(pixels, pts=index * ticks)
                    index += 1
                progress(index)

    def join(self) -> Path:
        """Put the segments into one file in the work folder."""
        suffix = ".mkv" if self.settings.upsampler else self.target.suffix
        joined = self.folder.path / f"generated{suffix}"
        if not joined.exists():
            segments = [self.folder.segment(segment.index) for segment in self.segments()]
            join(segments, joined, source=joined, facts=self.facts)
        return joined

    def report(self, stages: dict[str, float], num_resumed: int) -> GenerationReport:
        """Return what was done; the video is in place."""
        settings, timeline = self.settings, self.settings.timeline
        made = probe(self.target)
        values: dict[str, Any] = asdict(settings) | {"frame_rate": str(settings.frame_rate)}
        return GenerationReport(
            prompt=self.prompt,
            target=str(self.target),
            frames=timeline.num_frames,
            key_frames=timeline.num_key_frames,
            size=(made.width, made.height),
            frame_rate=str(settings.frame_rate),
            duration=float(timeline.num_frames / settings.frame_rate),
            parts_resumed=num_resumed,
            seconds=0.0,
            seconds_of_stages=stages,
            notices=list(dict.fromkeys(self.notices)),
            options=self.options.to_json(),
            settings=values,
            model={
                "name": self.model.name,
                "licence": self.model.licence,
                "sha256": self.model.sha256,
            },
            device=str(self.device),
            dtype=self.dtype,
            versions=versions(),
        )
