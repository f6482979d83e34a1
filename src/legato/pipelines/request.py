"""The first look at what shall be upscaled: what cannot work is refused before a model is loaded.

Nothing here needs torch, so that a misspelt name is told of at once.
"""

from dataclasses import dataclass, field
from pathlib import Path

from legato.models.spec import find_folder
from legato.pipelines.batch import refuse_folder_of_videos
from legato.pipelines.limits import require_raft
from legato.pipelines.output import require_no_input, require_report, require_target
from legato.pipelines.report import report_path
from legato.pipelines.run_options import RunOptions
from legato.pipelines.saved_plan import Execution
from legato.pipelines.survey import require_start
from legato.pipelines.upscale_options import UpscaleOptions, output_size, without_range
from legato.video.codecs import (
    CodecOptions,
    choose_codec,
    holds_opacity,
    losses,
    require_size,
)
from legato.video.probe import VideoFacts, probe


@dataclass(kw_only=True)
class Request:
    """What was asked for, after the first look at the source."""

    facts: VideoFacts
    target: Path
    options: UpscaleOptions
    run: RunOptions
    codec: CodecOptions
    size: tuple[int, int]
    notices: list[str] = field(default_factory=list)

    def execution(self, dtype: str) -> Execution:
        """Return how the job would be computed if memory did not matter."""
        return Execution(
            tile=self.options.restore.tile,
            window=self.options.restore.window,
            segment=self.options.segment,
            dtype=dtype,
            offload=self.run.offload,
        )


def examine(source: Path, target: Path, options: UpscaleOptions, run: RunOptions) -> Request:
    """Look at source and target, and refuse what cannot work.

    Raises:
        DecodeError: the source holds no video or image.
        InputError: an option does not fit the source, or the target cannot be used.
        ModelError: there is no model of that name.
        ResourceError: RAFT is asked for, and torchvision is not installed.
    """
    source, target = Path(source), Path(target)
    refuse_folder_of_videos(source)
    raft = options.restore.raft
    require_raft(raft)
    facts = probe(source)
    notices = [*facts.notices, *options.read.notices(facts)]
    if facts.kind != "video" and (options.start is not None or options.end is not None):
        notices.append("start and end are ignored: images have no time")
        options = without_range(options)
    require_start(facts, options.read, options.start_seconds)
    find_folder(options.model)
    codec = choose_codec(target, options.output, facts.kind)
    require_target(source, target, is_folder=codec.codec == "png" and facts.kind != "image")
    require_no_input(target, [] if raft is None else [raft])
    require_report(run.report or report_path(target), target)
    size = output_size(facts, options)
    require_size(codec, target, size=size)
    notices += losses(codec, facts, target, size=size)
    if facts.has_alpha and holds_opacity(codec, target):
        notices.append("opacity is enlarged by itself, with a bicubic kernel")
    if facts.colour.transfer in (16, 18):
        notices.append("high dynamic range: restored as coded (PQ or HLG), its tags are kept")
    return Request(
        facts=facts,
        target=target,
        options=options,
        run=run,
        codec=codec,
        size=size,
        notices=notices,
    )
