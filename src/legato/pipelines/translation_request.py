"""The first look at what shall be translated: what cannot work is refused before a model is loaded.

Nothing here needs torch, so that a misspelt name is told of at once.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from legato.errors import InputError
from legato.models.spec import find_folder
from legato.pipelines.batch import refuse_folder_of_videos
from legato.pipelines.limits import require_leading, require_raft
from legato.pipelines.output import require_no_input, require_report, require_target
from legato.pipelines.report import report_path
from legato.pipelines.run_options import RunOptions
from legato.pipelines.survey import require_start
from legato.pipelines.translate_options import TranslateOptions
from legato.pipelines.workfolder import WorkFolder
from legato.video.codecs import CodecOptions, choose_codec, losses, require_size, segment_suffix
from legato.video.probe import VideoFacts, probe

MOST_STRETCHED = 16
"""Longer by shorter side, above which the model would work on what is mostly made up."""


@dataclass(frozen=True, kw_only=True)
class TranslationRequest:
    """What was asked for, after the first look at the source."""

    facts: VideoFacts
    target: Path
    options: TranslateOptions
    run: RunOptions
    codec: CodecOptions
    notices: list[str] = field(default_factory=list)

    @property
    def folder(self) -> WorkFolder:
        """Where the job keeps what survives it."""
        return WorkFolder(self.target, suffix=segment_suffix(self.codec, self.facts))


def examine(
    source: Path, target: Path, options: TranslateOptions, run: RunOptions
) -> TranslationRequest:
    """Look at source and target, and refuse what cannot work.

    Raises:
        DecodeError: the source holds no video or image.
        InputError: an option does not fit the source, or the target cannot be used.
        ModelError: there is no model of that name.
        ResourceError: RAFT is asked for, and torchvision is not installed.
    """
    if options.model is None:
        raise InputError(
            "no model is named",
            why="which image model shall translate must be said",
            fix="name its folder with --model; bundled is driving, for driving videos",
        )
    find_folder(options.model)
    prompts = [text for _, text in options.prompts()]
    require_leading(options.guidance_scale, prompts, options.negative_prompt)
    run.refuse_upscaling()
    refuse_folder_of_videos(source)
    require_raft(options.raft)
    facts = probe(source)
    _require_shape(facts, options.resolution)
    notices = [*facts.notices, *options.read.notices(facts)]
    if facts.kind != "video" and (options.start is not None or options.end is not None):
        notices.append("start and end are ignored: images have no time")
        options = replace(options, start=None, end=None)
    require_start(facts, options.read, options.start_seconds)
    codec = choose_codec(target, options.output, facts.kind)
    require_target(source, target, is_folder=codec.codec == "png" and facts.kind != "image")
    read = (options.hint, options.lora, options.raft)
    require_no_input(target, [path for path in read if path is not None])
    require_report(run.report or report_path(target), target)
    size = (facts.width, facts.height)
    require_size(codec, target, size=size)
    notices += losses(codec, facts, target, size=size)
    return TranslationRequest(
        facts=facts, target=target, options=options, run=run, codec=codec, notices=notices
    )


def _require_shape(facts: VideoFacts, resolution: int | None) -> None:
    """Refuse thin pictures: their shorter side would be enlarged to what the model was trained on.

    A picture of 1x48 would become one of 512x24576.
    """
    shorter, longer = sorted((facts.width, facts.height))
    if resolution is None and longer > MOST_STRETCHED * shorter:
        raise InputError(
            f"{facts.path} is {facts.width}x{facts.height}",
            why=f"one side is more than {MOST_STRETCHED} times as long as the other, and the model "
            "would work on the shorter one at the size that it was trained on",
            fix="cut it, or name a smaller --resolution",
        )
