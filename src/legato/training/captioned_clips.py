"""Clips with captions to learn motion from: videos, folders of frames, and clips of shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from legato.errors import DecodeError, InputError
from legato.evaluation.captions import caption_file, caption_of
from legato.evaluation.clips import Picture, find_clips, read_clip
from legato.models.text import WordEncoder
from legato.models.text_encoder import ClipPair, ClipText
from legato.training.captions import require_known
from legato.training.pictures import joined
from legato.training.shards import Shards
from legato.video.probe import probe
from legato.video.read import read_times

SAY_RATE = "say how many with --fps"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFile:
    """A video, or a folder of frames."""

    path: Path
    num_frames: int
    rate: float
    """Frames per second."""


class CaptionedClips:
    """Random access to clips by number; cheap to hand to another process.

    Args:
        roots: videos or folders of them, where NAME.txt beside NAME.mp4 or NAME/ is the caption, or
            shards or folders of these.
        prompt: stands before every caption.
        fps: frames per second of the clips instead of what their files say.

    Raises:
        InputError: there is no clip, or nothing says how many frames per second it has.
    """

    def __init__(
        self, roots: Sequence[Path], *, prompt: str = "", fps: float | None = None
    ) -> None:
        self.prompt, self.fps = prompt, fps
        sharded = tuple(root for root in roots if _holds_shards(root))
        if sharded and fps is None:
            raise InputError(
                f"{sharded[0]}", why="shards do not tell frames per second", fix=SAY_RATE
            )
        self.files = [
            _file(path, fps)
            for root in roots
            if root not in sharded
            for path in find_clips(root).values()
        ]
        self.shards = Shards(sharded) if sharded else None

    def __len__(self) -> int:
        return len(self.files) + (len(self.shards) if self.shards else 0)

    def name(self, number: int) -> str:
        """Return what tells clip `number` to people."""
        if number < len(self.files):
            return str(self.files[number].path)
        shards, which = self._sharded(number)
        return shards.name(which)

    def caption(self, number: int) -> str:
        """Return the caption of clip `number` behind the prompt, without decoding a frame."""
        if number < len(self.files):
            return joined(self.prompt, caption_of(self.files[number].path))
        shards, which = self._sharded(number)
        return joined(self.prompt, shards.caption(which))

    def num_frames(self, number: int) -> int:
        """Return how many frames clip `number` has."""
        if number < len(self.files):
            return self.files[number].num_frames
        shards, which = self._sharded(number)
        return shards.num_frames(which)

    def rate(self, number: int) -> float:
        """Return the frames per second of clip `number`."""
        if number < len(self.files):
            return self.files[number].rate
        assert self.fps is not None
        return self.fps

    def pictures(self, number: int, first: int, count: int, gap: int) -> list[Picture]:
        """Decode `count` frames of clip `number`, every `gap`-th from frame `first` on.

        A video is read from its beginning.

        Raises:
            DecodeError: it is damaged, or has fewer frames than its file says.
        """
        if number >= len(self.files):
            shards, which = self._sharded(number)
            return list(shards.clip(which, first, count, gap).frames)
        file = self.files[number]
        stop = first + (count - 1) * gap + 1
        found = list(islice(read_clip(file.path), first, stop, gap))
        if len(found) < count:
            raise DecodeError(
                f"{file.path}",
                why=f"it has fewer than the {file.num_frames} frames that it promises",
                fix="copy it again, or leave it out",
            )
        return found

    def require_captions(self, text: WordEncoder | ClipText | ClipPair) -> None:
        """Refuse clips that say nothing, and captions that a closed vocabulary lacks.

        Raises:
            InputError: names the first such clip.
        """
        for number in range(len(self)):
            caption, name = self.caption(number), self.name(number)
            if not caption:
                place = "beside its video, and make the shard again"
                if number < len(self.files):
                    place = f"as {caption_file(self.files[number].path).name} beside it"
                raise InputError(
                    f"{name} has no caption",
                    why="the model learns what captions mean",
                    fix=f"write one {place}, or a --prompt for all",
                )
            if isinstance(text, WordEncoder):
                require_known(text, caption, name)

    def _sharded(self, number: int) -> tuple[Shards, int]:
        assert self.shards is not None
        return self.shards, number - len(self.files)


def _holds_shards(root: Path) -> bool:
    return root.suffix == ".tar" or (root.is_dir() and any(root.rglob("*.tar")))


def _file(path: Path, fps: float | None) -> ClipFile:
    """Return a clip and what its file says of it."""
    facts = probe(path)
    if facts.kind != "video" and fps is None:
        raise InputError(f"{path}", why="images do not tell frames per second", fix=SAY_RATE)
    count = facts.num_frames_estimate or sum(1 for _ in read_times(path, facts=facts))
    return ClipFile(path=path, num_frames=count, rate=fps or float(facts.frame_rate))
