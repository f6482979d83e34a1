"""One page in one file: the table, and each clip in pictures that need nothing from elsewhere."""

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from html import escape
from pathlib import Path
from string import Template

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.evaluation.clips import ClipPair, Picture, read_pair
from legato.evaluation.compare import profile_picture
from legato.evaluation.flicker_spectrum import frequencies
from legato.evaluation.measure import ClipFigures
from legato.evaluation.summary import Evaluation, cells, legend, whole_lines
from legato.video.codecs import CodecOptions
from legato.video.images import encode_image
from legato.video.probe import probe
from legato.video.write import VideoWriter

MAX_STILL_PX, MAX_PLAYER_PX = 960, 320
MAX_PROFILE_FRAMES, MAX_PLAYER_FRAMES = 240, 48
MAX_PLAYER_BYTES = 1 << 20
PLAYER_RATE = 12
_TEMPLATE = Path(__file__).with_name("page.html")
_PLOT_WIDTH, _PLOT_HEIGHT, _PLOT_MARGIN = 480, 160, 30


@dataclass(slots=True, kw_only=True)
class _Pictures:
    """What the page shows of a clip; a result and, where there is one, its reference."""

    still: list[Picture] = field(default_factory=list)
    profile: list[ndarray] = field(default_factory=list)
    player: list[Picture] = field(default_factory=list)


def to_html(evaluation: Evaluation, pairs: Sequence[ClipPair]) -> str:
    """Return the page: table, notices, and pictures of some of the clips.

    Each clip adds a still of its middle frame (960 pixels wide at most), a temporal profile of its
    middle row (240 frames), a player (48 frames at 12 per second, 1 MB) and its flicker spectrum.

    Args:
        evaluation: of all clips.
        pairs: the clips to show, the first of those that were measured.

    Raises:
        DecodeError: a clip cannot be read any more.
    """
    sections = [_section(pair, clip) for pair, clip in zip(pairs, evaluation.clips, strict=False)]
    left_out = len(evaluation.clips) - len(sections)
    if left_out:
        sections.append(f"<p>{left_out} more clips are in the table only (--shown).</p>")
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        notices="\n".join(f'<p class="notice">{escape(n)}.</p>' for n in evaluation.notices),
        table=_table(evaluation),
        legend=escape(legend(evaluation)),
        clips="\n".join(sections),
    )


def _table(evaluation: Evaluation) -> str:
    titles, *rows = cells(evaluation)
    lines = ["<tr>" + "".join(f"<th>{escape(title)}</th>" for title in titles) + "</tr>"]
    for index, row in enumerate(rows):
        kind = "" if index < len(evaluation.clips) else ' class="total"'
        lines.append(f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    whole = [f"<p>{escape(line)}.</p>" for line in whole_lines(evaluation)]
    return "\n".join(["<table>", *lines, "</table>", *whole])


def _section(pair: ClipPair, clip: ClipFigures) -> str:
    pictures = _gather(pair, clip.num_frames)
    both = "result left, reference right" if pair.reference else "the result"
    profile = _image(profile_picture(pictures.profile), "temporal profile")
    parts = [
        f"<h2>{escape(pair.name)}</h2>",
        _slider(pictures.still),
        f"<figure>{profile}<figcaption>Temporal profile ({both}): the middle row of pixels, "
        "time runs downwards; what flickers looks like a comb.</figcaption></figure>",
        f"<figure>{_player(pictures.player, pair.result)}<figcaption>The first frames ({both}), "
        f"reduced, at {PLAYER_RATE} per second.</figcaption></figure>",
        _plot(clip, with_reference=pair.reference is not None),
    ]
    return "\n".join(parts)


def _gather(pair: ClipPair, num_frames: int) -> _Pictures:
    """Read a clip once more, and keep what is shown of it."""
    found = _Pictures()
    middle = num_frames // 2
    needed = min(num_frames, max(middle + 1, MAX_PROFILE_FRAMES))
    for index, frames in enumerate(read_pair(pair, needed)):
        pictures = [_at_most(p, MAX_STILL_PX) for p in frames if p is not None]
        if index == middle:
            found.still = pictures
        if index < MAX_PROFILE_FRAMES:
            found.profile.append(np.concatenate([p[len(p) // 2] for p in pictures]))
        if index < MAX_PLAYER_FRAMES:
            small = [_at_most(p, MAX_PLAYER_PX) for p in pictures]
            found.player.append(np.concatenate(small, axis=1))
    return found


def _at_most(picture: Picture, width_px: int) -> UInt8[ndarray, "rows cols 3"]:
    rows, cols = picture.shape[:2]
    if cols <= width_px:
        return picture
    size = width_px, max(1, round(rows * width_px / cols))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _image(picture: Picture, what: str, kind: str = "") -> str:
    source = _data_uri(encode_image(picture, None, ".jpg"), "image/jpeg")
    return f'<img alt="{what}"{kind} src="{source}">'


def _data_uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _slider(pictures: Sequence[Picture]) -> str:
    if len(pictures) == 1:
        return f"<figure>{_image(pictures[0], 'result')}</figure>"
    result, reference = pictures
    left = _image(result, "result", ' class="left"')
    return (
        f'<figure class="slider">{_image(reference, "reference")}{left}'
        '<div class="edge"></div><span>result</span><span class="r">reference</span>'
        '<input type="range" min="0" max="100" value="50" aria-label="where the two meet">'
        "</figure>"
    )


def _player(pictures: Sequence[Picture], source: Path) -> str:
    """Return a looping H.264 video, or a sentence where it would be too large."""
    rows, cols = (side // 2 * 2 for side in pictures[0].shape[:2])
    facts = replace(
        probe(source),
        frame_rate=Fraction(PLAYER_RATE),
        has_alpha=False,
        bit_depth=8,
        hdr=None,
        sample_aspect=Fraction(1),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "player.mp4"
        with VideoWriter(
            path,
            size=(cols, rows),
            time_base=Fraction(1, PLAYER_RATE),
            options=CodecOptions(codec="x264", crf=22),
            facts=facts,
        ) as writer:
            for pts, picture in enumerate(pictures):
                writer.write(np.ascontiguousarray(picture[:rows, :cols]), pts=pts)
        data = path.read_bytes()
    if len(data) > MAX_PLAYER_BYTES:
        return "<p>The player would be larger than 1 MB and is left out.</p>"
    return f'<video controls loop muted src="{_data_uri(data, "video/mp4")}"></video>'


def _plot(clip: ClipFigures, *, with_reference: bool) -> str:
    """Return the flicker spectrum as a drawing; nothing for clips of one or two frames."""
    if not clip.spectrum:
        return ""
    width, height, margin = _PLOT_WIDTH, _PLOT_HEIGHT, _PLOT_MARGIN
    top = max(max(clip.spectrum), 1e-6)
    places = frequencies(len(clip.spectrum), clip.num_frames) / 0.5
    points = " ".join(
        f"{margin + x * (width - 2 * margin):.1f},{height - margin - y * (height - 2 * margin):.1f}"
        for x, y in zip(places, np.asarray(clip.spectrum) / top, strict=True)
    )
    base, right = height - margin, width - margin
    what = "less the reference's" if with_reference else "of the result, its motion included"
    return (
        f'<figure><svg width="{width}" height="{height}" role="img" aria-label="flicker spectrum">'
        f'<path d="M{margin},{margin}V{base}H{right}" fill="none" stroke="#999"/>'
        f'<polyline points="{points}" fill="none" stroke="#06c" stroke-width="2"/>'
        f'<g font-size="11"><text x="{margin}" y="{margin - 8}">{top:.3g} levels</text>'
        f'<text x="{margin}" y="{height - 10}">0</text><text x="{right}" y="{height - 10}" '
        'text-anchor="end">1/2 cycle per frame</text></g></svg><figcaption>Flicker spectrum: '
        f"brightness of blocks {what}, amplitude by temporal frequency.</figcaption></figure>"
    )
