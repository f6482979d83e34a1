"""Shards give back what was written, are webdataset's, and a sample follows from its number."""

import os
import sys
import tarfile
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shard_clips import small_shards, write_videos

from legato.errors import InputError
from legato.training.shard_batches import (
    Numbers,
    ShardBatchOptions,
    ShardSamples,
    Share,
    numbered_batches,
)
from legato.training.shard_sources import ShardOptions, make_shards
from legato.training.shards import ShardedClip, Shards, ShardWriter

SMALL = ShardBatchOptions(batch_size=4, frames=2, size=32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return small_shards(tmp_path_factory.mktemp("shards"), ["cat", "dog"], degrade=True)


def clip(frames=3, size=16, *, seed=0, caption=""):
    rng = np.random.default_rng(seed)
    pictures = np.stack([np.full((size, size, 3), 40 * k + seed, np.uint8) for k in range(frames)])
    low_res = rng.integers(0, 256, (frames, size // 4, size // 4, 3), dtype=np.uint8)
    return ShardedClip(frames=pictures, low_res=low_res, caption=caption)


def test_clips_come_back_by_number_whole_or_in_part(tmp_path):
    written = [clip(seed=k, caption="a cat" if k == 1 else "") for k in range(3)]
    with ShardWriter(tmp_path / "set", max_mb=0.002, quality=97) as writer:
        for number, one in enumerate(written):
            writer.write(f"clip_{number}", one)
    assert len(writer.written) == 3
    read = Shards((tmp_path / "set",))
    assert [read.clip(k).caption for k in range(3)] == ["", "a cat", ""]
    for k, one in enumerate(written):
        assert np.abs(read.clip(k).frames.astype(int) - one.frames).max() <= 2
        assert np.array_equal(read.clip(k).low_res, one.low_res)
    part = read.clip(2, 1, 2)
    assert np.array_equal(part.low_res, written[2].low_res[1:])
    assert len(part.frames) == 2


def test_a_shard_made_elsewhere_is_read(tmp_path):
    """Other counts, folders in keys, unknown members, PNG, no low-resolution copy."""
    _, png = cv2.imencode(".png", np.full((8, 8, 3), 7, np.uint8))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("x/k1.5.png", "x/k1.json", "x/k1.11.png", "x/k2.txt", "x/k3.0.png"):
            path = tmp_path / "member"
            path.write_bytes(b"words" if name.endswith(("txt", "json")) else png.tobytes())
            tar.add(path, name)
    read = Shards((tmp_path / "a.tar", tmp_path))
    assert [read.num_frames(k) for k in range(len(read))] == [2, 1, 2, 1]
    assert read.clip(0).frames.shape == (2, 8, 8, 3)
    assert read.clip(0).low_res is None


def test_a_failed_writer_leaves_no_shard_and_a_used_folder_is_refused(tmp_path):
    def write(shape):
        with ShardWriter(tmp_path / "set", max_mb=1.0, quality=90) as writer:
            writer.write("a", clip())
            writer.write("b", ShardedClip(frames=np.zeros(shape, np.uint8)))

    with pytest.raises(cv2.error):
        write((1, 0, 0, 3))
    assert not list((tmp_path / "set").iterdir())
    (tmp_path / "set/old.tar").touch()
    with pytest.raises(InputError, match="holds shards already"):
        ShardWriter(tmp_path / "set", max_mb=1.0, quality=90)


def test_a_folder_that_is_not_there_is_told_first_and_a_failure_leaves_no_part_of_a_set(tmp_path):
    videos = write_videos(tmp_path / "videos", ["a"])
    options = ShardOptions(
        data=(videos, tmp_path / "tyop"), out=tmp_path / "set", frames=4, size=32, shard_mb=0.001
    )
    lines = []
    with pytest.raises(InputError, match="no such file or folder"):
        make_shards(options, log=lines.append)
    assert not lines
    assert not options.out.exists()

    def fail(line):
        assert len(list(options.out.glob("*.tar"))) == 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shards(replace(options, data=(videos,)), log=fail)
    assert not options.out.exists()
    assert len(Shards((make_shards(replace(options, data=(videos,))),))) == 2


def test_no_clips_and_a_damaged_shard_are_told(tmp_path):
    with pytest.raises(InputError, match="no clips"):
        Shards((tmp_path,))
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(InputError, match=r"a\.tar"):
        Shards((tmp_path,))


def test_videos_become_clips_with_captions_and_damaged_copies(shards):
    read = Shards((shards,))
    assert len(read) == 4  # two runs of four frames in each of two videos of ten
    clips = [read.clip(k) for k in range(4)]
    assert [c.caption for c in clips] == ["a cat", "a cat", "", ""]
    assert {c.frames.shape for c in clips} == {(4, 64, 64, 3)}
    assert {c.low_res.shape for c in clips} == {(4, 16, 16, 3)}


def test_shards_of_the_same_videos_are_the_same(tmp_path):
    videos = write_videos(tmp_path / "videos", ["a"])
    made = [
        make_shards(ShardOptions(data=(videos,), out=tmp_path / name, frames=4, size=32))
        for name in ("one", "two")
    ]
    one, two = (Shards((folder,)).clip(1).frames for folder in made)
    assert np.array_equal(one, two)


@pytest.mark.skipif(sys.platform != "linux", reason="names there are text")
def test_names_that_are_no_text_become_shards(tmp_path):
    videos = write_videos(tmp_path / "videos", ["a"])
    (videos / "a.mkv").rename(os.fsdecode(os.fsencode(videos) + b"/\xff.mkv"))
    made = make_shards(ShardOptions(data=(videos,), out=tmp_path / "set", frames=4, size=32))
    assert len(Shards((made,))) == 2


def test_videos_that_are_too_short_are_told(tmp_path):
    videos = write_videos(tmp_path / "videos", ["a"], frames=3)
    with pytest.raises(InputError, match="no clips from"):
        make_shards(ShardOptions(data=(videos,), out=tmp_path / "set"))


@given(
    together=st.sampled_from([(1, 1), (1, 4), (2, 1), (2, 3), (4, 2), (3, 4)]),
    factor=st.integers(1, 3),
    first=st.integers(0, 5),
)
def test_all_processes_together_take_every_number_once(together, factor, first):
    processes, own = together
    size = processes * own * factor
    taken = []
    for process in range(processes):
        share = Share(process=process, num_processes=processes, clips_at_once=own)
        assert share.accumulation(size) == factor
        parts = islice(Numbers(first, size, share), 2 * factor)
        taken += [number for part in parts for number in part]
    assert sorted(taken) == list(range(first * size, (first + 2) * size))


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match="multiple of 6"):
        Share(num_processes=3, clips_at_once=2).accumulation(8)


def test_a_sample_follows_from_its_number_whoever_makes_it(shards):
    samples = ShardSamples(Shards((shards,)), SMALL)
    share = Share(clips_at_once=2, num_workers=0)
    later = next(
        iter(numbered_batches(ShardSamples(Shards((shards,)), SMALL), SMALL.batch_size, share, 3))
    )
    assert later["number"].tolist() == [12, 13]
    for k in range(2):
        again = samples[12 + k]
        assert torch.equal(later["frames"][k], again["frames"])
        assert torch.equal(later["low_res"][k], again["low_res"])
        assert later["caption"][k] == again["caption"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
def test_worker_processes_give_the_same_batches(shards):
    alone, helped = (
        list(
            islice(
                numbered_batches(
                    ShardSamples(Shards((shards,)), SMALL),
                    SMALL.batch_size,
                    Share(num_workers=n),
                    1,
                ),
                5,
            )
        )
        for n in (0, 2)
    )
    for mine, theirs in zip(alone, helped, strict=True):
        assert torch.equal(mine["frames"], theirs["frames"])
        assert torch.equal(mine["number"], theirs["number"])


def test_a_stored_small_copy_is_cropped_with_its_clip(tmp_path):
    """Frames that tell where they are: the small copy must tell the same place."""
    rows, cols = np.mgrid[:64, :96].astype(np.uint8)
    place = np.stack([rows, cols, rows * 0], axis=-1)[None]
    low_res = np.ascontiguousarray(place[:, ::4, ::4])
    with ShardWriter(tmp_path / "set", max_mb=1.0, quality=100) as writer:
        writer.write("a", ShardedClip(frames=place, low_res=low_res))
    samples = ShardSamples(Shards((tmp_path / "set",)), replace(SMALL, frames=1))
    for number in range(6):
        sample = samples[number]
        small, large = sample["low_res"][0].int(), sample["frames"][0].int()
        mirrored = large[1, 0, 0] > large[1, 0, -1]
        corner = large[:, ::4, 3::4] if mirrored else large[:, ::4, ::4]
        assert (small[:2] - corner[:2]).abs().max() <= 3


def test_clips_without_a_small_copy_are_damaged_in_training(tmp_path):
    with ShardWriter(tmp_path / "set", max_mb=1.0, quality=97) as writer:
        writer.write("a", replace(clip(size=64), low_res=None))
    sample = ShardSamples(Shards((tmp_path / "set",)), SMALL)[0]
    assert sample["low_res"].shape == (2, 3, 8, 8)


def test_captions_are_dropped_at_the_rate_that_is_asked_for(shards):
    read = Shards((shards,))
    always, never = (ShardSamples(read, replace(SMALL, text_dropout=p)) for p in (1.0, 0.0))
    assert {always[n]["caption"] for n in range(8)} == {""}
    assert {never[n]["caption"] for n in range(8)} == {"", "a cat"}


def test_a_damaged_clip_is_passed_over_and_told(tmp_path):
    with ShardWriter(tmp_path / "set", max_mb=1.0, quality=97) as writer:
        for seed in range(3):
            writer.write(f"c{seed}", clip(size=32, seed=seed, caption=str(seed)))
    whole = ShardSamples(Shards((tmp_path / "set",)), SMALL)
    before = [whole[number] for number in range(12)]
    (shard,) = (tmp_path / "set").iterdir()
    data = shard.read_bytes()
    picture = data.index(b"\xff\xd8", data.index(b"c1.0001.jpg"))
    shard.write_bytes(data[:picture] + b"no" + data[picture + 2 :])
    damaged = ShardSamples(Shards((tmp_path / "set",)), SMALL)
    assert [damaged.shards.caption(k) for k in range(3)] == ["0", "1", "2"]
    after = [damaged[number] for number in range(12)]
    told = {sample["passed_over"] for sample in after}
    assert told == {
        "",
        f"passed over a clip: c1.0001.jpg in {shard}: it is no picture; make the shard again",
    }
    for one, other in zip(before, after, strict=True):
        if not other["passed_over"]:
            assert torch.equal(one["frames"], other["frames"])


def test_clips_that_are_too_small_are_told(shards):
    with pytest.raises(InputError, match="hardly a clip"):
        ShardSamples(Shards((shards,)), replace(SMALL, size=128))[0]
