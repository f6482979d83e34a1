"""Judge a folder of results, against references or alone: tables, values and one page."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from legato.device import choose_device
from legato.errors import InputError
from legato.evaluation.captions import caption_of
from legato.evaluation.clips import ClipPair, pair_clips, read_pair
from legato.evaluation.dists import DISTS
from legato.evaluation.evaluate_options import (
    CLIP_FRAMES,
    NAME,
    EvaluateOptions,
    judge_names,
)
from legato.evaluation.measure import ClipFigures, Instruments, measure
from legato.evaluation.niqe import TOO_FEW_PATCHES, NaturalModel
from legato.evaluation.page import to_html
from legato.evaluation.picture_judges import load_judge
from legato.evaluation.report import find_distance
from legato.evaluation.scripted_network import ScriptedNetwork
from legato.evaluation.summary import Evaluation, summarise, to_json, to_latex, to_markdown
from legato.evaluation.vmaf import find_vmaf
from legato.evaluation.whole_set import SetMeter
from legato.flow.estimate import choose_estimator
from legato.models.clip_similarity import ClipSimilarity
from legato.pipelines.output import require_replaceable
from legato.video.atomic import making_folder, temporary_beside, write_whole

SUFFIXES = (".md", ".json", ".tex", ".html")


def evaluate(
    results: Path | str,
    references: Path | str | None = None,
    out: Path | str = NAME,
    options: EvaluateOptions | None = None,
    *,
    on_clip: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Measure every clip, and write evaluation.md, .json, .tex and .html.

    Two frames of one clip are in memory at a time; VMAF keeps the clip in a temporary file.

    Args:
        results: a clip, or a folder of clips; see `find_clips`.
        references: the same clips as they should be; None: figures that need none.
        out: the folder to write to; made if need be.
        options: see `EvaluateOptions`.
        on_clip: told the name of each clip before it is measured.

    Raises:
        InputError: clips cannot be read, or do not fit each other; out cannot be written; or an
            option needs references, or clips without them.
        ModelError: the named weights or the named CLIP model cannot be used.
        ResourceError: the disk is full, the program for VMAF fails, or a package is missing.
    """
    options, out = options or EvaluateOptions(), Path(out)
    pairs = pair_clips(Path(results), None if references is None else Path(references))
    with making_folder(out):
        for suffix in SUFFIXES:
            require_replaceable(out / f"{NAME}{suffix}", is_folder=False)
            temporary_beside(out / f"{NAME}{suffix}")  # refuses a folder that may not be written
        _require_fitting(pairs, options)
        instruments, notices = _find_instruments(options, with_reference=references is not None)
        whole = _set_meter(options)
        clips = []
        for pair in pairs:
            on_clip(pair.name)
            frames = read_pair(pair, options.frames, notices=notices)
            clips.append(measure(pair.name, whole.watch(frames), _told(instruments, pair)))
            if instruments.natural and "niqe" not in clips[-1].series:
                notices.append(f"{pair.name} has no NIQE: {TOO_FEW_PATCHES}")
        notices += _uncaptioned(clips)
        of_all, told = whole.finish()
        evaluation = summarise(clips, seed=options.seed, notices=[*notices, *told], whole=of_all)
        texts = (
            to_markdown(evaluation),
            to_json(evaluation),
            to_latex(evaluation),
            to_html(evaluation, pairs[: options.shown]),
        )
        for suffix, text in zip(SUFFIXES, texts, strict=True):
            write_whole(out / f"{NAME}{suffix}", f"{text}\n".encode(errors="replace"))
    return evaluation


def _require_fitting(pairs: Sequence[ClipPair], options: EvaluateOptions) -> None:
    """Refuse what does not fit, before anything is measured."""
    if options.fvd and len(pairs) < 2:
        raise InputError(
            f"fvd={options.fvd} of {len(pairs)} clip",
            why="it compares the spread of sets of clips",
            fix="judge a folder of clips, thousands of them for a figure to publish",
        )
    for pair in pairs:
        num_frames = sum(1 for _ in read_pair(pair, options.frames))
        takes_clips = options.fvd or options.inception_score
        if takes_clips and num_frames < CLIP_FRAMES:
            raise InputError(
                f"clip {pair.name} of {num_frames} frames",
                why=f"FVD and the inception score are of {CLIP_FRAMES} frames of each clip",
                fix="leave the clip out, or --fvd and --inception-score",
            )
        if options.fid and num_frames < 2 and len(pairs) == 1:
            raise InputError(
                f"fid={options.fid} of one frame",
                why="it compares the spread of sets of frames",
                fix="judge more frames",
            )


def _set_meter(options: EvaluateOptions) -> SetMeter:
    device = choose_device("auto")
    named = {"fid": options.fid, "fvd": options.fvd, "score": options.inception_score}
    flags = {"fid": "--fid", "fvd": "--fvd", "score": "--inception-score"}
    return SetMeter(
        **{
            key: ScriptedNetwork(path, flags[key], device, features=key != "score")
            for key, path in named.items()
            if path is not None
        }
    )


def _find_instruments(
    options: EvaluateOptions, *, with_reference: bool
) -> tuple[Instruments, list[str]]:
    """Return what is at hand, and a sentence for each thing that is not."""
    content, device = _content_instruments(options), choose_device("auto")
    if not with_reference:
        _refuse(
            options, ("lpips", "dists", "raft", "fid", "fvd"), "it takes references to compare with"
        )
        judges = {name: load_judge(name, device) for name in judge_names(options.iqa)}
        return replace(content, natural=NaturalModel.load(), judges=judges), []
    _refuse(options, ("iqa",), "it judges clips without references")
    distance, no_distance = find_distance(options.lpips)
    vmaf, no_vmaf = find_vmaf()
    found = replace(
        content,
        distance=distance,
        dists=None if options.dists is None else DISTS.from_file(options.dists),
        raft=None
        if options.raft is None
        else choose_estimator("raft", weights=str(options.raft), device=device),
        vmaf=vmaf,
    )
    return found, [reason for reason in (no_distance, no_vmaf) if reason]


def _refuse(options: EvaluateOptions, names: Sequence[str], why: str) -> None:
    for name in names:
        if getattr(options, name):
            raise InputError(f"{name}={getattr(options, name)}", why=why, fix="leave it out")


def _told(instruments: Instruments, pair: ClipPair) -> Instruments:
    """Return the instruments for a clip, with its own caption where no prompt holds for all."""
    caption = caption_of(pair.result)
    if instruments.similarity is None or instruments.prompts is not None or not caption:
        return instruments
    return replace(instruments, prompts=("", caption))


def _uncaptioned(clips: Sequence[ClipFigures]) -> list[str]:
    """Return a sentence for each clip that lacks a prompt where others have one."""
    lacking = [clip.name for clip in clips if "clipsim" not in clip.series]
    if len(lacking) == len(clips):
        return []
    return [f"{name} has no CLIPSIM: {name}.txt is not beside it" for name in lacking]


def _content_instruments(options: EvaluateOptions) -> Instruments:
    if options.clip is None:
        return Instruments()
    return Instruments(
        similarity=ClipSimilarity(options.clip, choose_device("auto")),
        prompts=(options.source_prompt, options.prompt) if options.prompt else None,
    )
