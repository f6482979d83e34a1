"""Clips in tar files, laid out as webdataset does: members of one sample stand together.

    KEY.0000.jpg  KEY.0001.jpg ...   frames of a clip, JPEG or PNG
    KEY.low.0000.png ...             the same, damaged and reduced by four, where precomputed
    KEY.txt                          caption, where there is one

KEY holds no dot but may hold folders; other members are ignored. A clip is one contiguous read, and
is found by its number, so that training can resume anywhere.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import DecodeError, InputError
from legato.video.atomic import writing

FRAME = re.compile(r"(low\.)?(\d+)\.(?:jpe?g|png)", re.IGNORECASE)
CAPTION = "txt"
JPEG_FLAGS = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


@dataclass(frozen=True, kw_only=True)
class ShardedClip:
    """A clip as it lies in a shard."""

    frames: UInt8[ndarray, "T H W 3"]
    low_res: UInt8[ndarray, "T h w 3"] | None = None
    """Damaged and reduced by four; None: to be made in training."""
    caption: str = ""
    """What it shows; empty: nobody said."""


class Shards:
    """Random access to the clips of many shards; cheap to hand to another process.

    Args:
        roots: shards, or folders of them. One that is named twice is drawn twice as often.

    Raises:
        InputError: there is no clip, or a shard is damaged.
    """

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self.paths = [path for root in roots for path in _shards_of(root)]
        spans = [(number, *span) for number, path in enumerate(self.paths) for span in _spans(path)]
        if not spans:
            raise InputError(
                f"no clips in {', '.join(map(str, roots))}",
                why="no tar file there holds frames named KEY.0000.jpg",
                fix="make shards: legato train shards --data VIDEOS --out SHARDS",
            )
        self.spans = np.array(spans, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.spans)

    def num_frames(self, number: int) -> int:
        """Return how many frames clip `number` has."""
        return int(self.spans[number, 3])

    def name(self, number: int) -> str:
        """Return what tells clip `number` to people: its shard, and which it is there."""
        shard = self.spans[number, 0]
        place = number - int(np.searchsorted(self.spans[:, 0], shard)) + 1
        return f"{self.paths[shard]} (clip {place})"

    def clip(
        self, number: int, first: int = 0, frames: int | None = None, step: int = 1
    ) -> ShardedClip:
        """Decode `frames` frames of clip `number` from frame `first` on; None: all of them.

        Of a `step` above 1 every so manieth is taken.

        Raises:
            DecodeError: a picture is damaged, or frames differ in size or are not there.
        """
        path, start, stop = self._span(number)
        with path.open("rb") as file:
            file.seek(start)
            data = io.BytesIO(file.read(stop - start))
        chosen = slice(first, None if frames is None else first + frames * step, step)
        with tarfile.open(path, "r:", data) as tar:
            members = _Members(tar)
            low_res = members.pictures(members.low_res[chosen]) if members.low_res else None
            return ShardedClip(
                frames=members.pictures(members.frames[chosen]),
                low_res=low_res,
                caption=members.caption(),
            )

    def caption(self, number: int) -> str:
        """Return the caption of clip `number`; of its frames only the headers are read."""
        path, start, stop = self._span(number)
        with path.open("rb") as file:
            file.seek(start)
            with tarfile.open(path, "r:", file) as tar:
                return _Members(tar, stop).caption()

    def _span(self, number: int) -> tuple[Path, int, int]:
        """Return a clip's shard, its first byte there and the one after its last."""
        shard, start, stop, _ = self.spans[number].tolist()
        return self.paths[shard], start, stop


class ShardWriter:
    """Writes clips into numbered shards of a folder; each is renamed into place when it is full.

    Where the block fails, none of them stays: a part of a set reads as a whole one.

    Args:
        folder: where to write `shard-000000.tar` and so on; made if need be.
        max_mb: size at which the next shard begins.
        quality: of the JPEG frames; low-resolution frames are PNG.

    Raises:
        InputError: the folder holds shards already, or cannot be written.
    """

    def __init__(self, folder: Path, *, max_mb: float, quality: int) -> None:
        if any(folder.glob("*.tar")):
            raise InputError(
                f"{folder} holds shards already",
                why="new ones would be mixed with them",
                fix="name another folder, or remove them",
            )
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.max_bytes, self.quality = folder, max_mb * 1e6, quality
        self.written: list[Path] = []
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
            return
        if self._tar is not None:
            with suppress(OSError):  # of a full disk, which it was left for
                self._tar.close()
        for path in (self._partial, *self.written):
            path.unlink(missing_ok=True)

    def write(self, key: str, clip: ShardedClip) -> None:
        """Add a clip; frames first, so that a shard is readable as a stream."""
        if self._tar is None:
            self._tar = tarfile.open(self._partial, "w")  # noqa: SIM115 - closed by `_finish`
        flags = [cv2.IMWRITE_JPEG_QUALITY, self.quality, *JPEG_FLAGS]
        for index, frame in enumerate(clip.frames):
            self._add(f"{key}.{index:04d}.jpg", _encoded(".jpg", frame, flags))
        for index, frame in enumerate(() if clip.low_res is None else clip.low_res):
            self._add(f"{key}.low.{index:04d}.png", _encoded(".png", frame, []))
        if clip.caption:
            self._add(f"{key}.{CAPTION}", clip.caption.encode())
        if self._tar.offset >= self.max_bytes:
            self._finish()

    @property
    def _partial(self) -> Path:
        return self.folder / "shard.partial"

    def _add(self, name: str, data: bytes) -> None:
        assert self._tar is not None
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def _finish(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None
            place = self.folder / f"shard-{len(self.written):06d}.tar"
            self.written.append(self._partial.rename(place))


def _shards_of(root: Path) -> list[Path]:
    return [root] if root.is_file() else sorted(root.rglob("*.tar"))


def _spans(path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield (first byte, byte after the last, number of frames) of each clip in a shard."""
    try:
        with tarfile.open(path, "r:") as tar:
            key, start, stop, frames = "", 0, 0, 0
            for member in tar:
                of, name = _split(member.name)
                if of != key:
                    if frames:
                        yield start, stop, frames
                    key, start, frames = of, member.offset, 0
                match = FRAME.fullmatch(name)
                frames += match is not None and match[1] is None
                stop = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * 512
            if frames:
                yield start, stop, frames
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"shard {path}", why=f"{error}", fix="make it again") from error


def _split(name: str) -> tuple[str, str]:
    """Cut a member's name at the first dot after its folders: its clip, and what of it it is."""
    folder, slash, base = name.rpartition("/")
    key, _, rest = base.partition(".")
    return f"{folder}{slash}{key}", rest


class _Members:
    """The members of one clip: names of frames in order, and of the caption.

    Args:
        tar: open at its first byte.
        stop: the byte after its last; None: that of the file.
    """

    def __init__(self, tar: tarfile.TarFile, stop: int | None = None) -> None:
        self.tar = tar
        own = takewhile(lambda member: stop is None or member.offset < stop, tar)
        named = {_split(member.name)[1]: member for member in own}
        matches = filter(None, map(FRAME.fullmatch, sorted(named)))
        both = sorted((match[1] is not None, int(match[2]), match[0]) for match in matches)
        self.frames = [named[name] for is_low, _, name in both if not is_low]
        self.low_res = [named[name] for is_low, _, name in both if is_low]
        self.text = named.get(CAPTION)

    def caption(self) -> str:
        return "" if self.text is None else self._read(self.text).decode(errors="replace").strip()

    def pictures(self, members: list[tarfile.TarInfo]) -> UInt8[ndarray, "T H W 3"]:
        decoded = [self._decoded(member) for member in members]
        if len({picture.shape for picture in decoded}) != 1:
            names = ", ".join(member.name for member in members[:2])
            raise DecodeError(
                f"frames {names} ... in {self.tar.name!s}",
                why="frames of a clip differ in size or are not there",
                fix="make the shard again",
            )
        return np.stack(decoded)

    def _decoded(self, member: tarfile.TarInfo) -> ndarray:
        data = np.frombuffer(self._read(member), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if picture is None:
            where = f"{member.name} in {self.tar.name!s}"
            raise DecodeError(where, why="it is no picture", fix="make the shard again")
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))

    def _read(self, member: tarfile.TarInfo) -> bytes:
        file = self.tar.extractfile(member)
        return b"" if file is None else file.read()


def _encoded(suffix: str, frame: UInt8[ndarray, "H W 3"], flags: list[int]) -> bytes:
    _, data = cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), flags)
    return bytes(data)
