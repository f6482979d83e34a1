"""Key frames keep their distances; batches cover them and hold on to each other."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from legato.errors import InputError
from legato.pipelines.keyframes import (
    KeyframeOptions,
    measure_changes,
    plan_batches,
    select_keyframes,
)

changes = st.integers(0, 2**16).flatmap(
    lambda seed: st.integers(1, 120).map(lambda n: np.random.default_rng(seed).random(n))
)


def options(least, most):
    return KeyframeOptions(min_interval=least, max_interval=most)


@settings(max_examples=200)
@given(changes=changes, least=st.integers(1, 8), most=st.integers(2, 30))
def test_key_frames_keep_their_distances(changes, least, most):
    if most <= least:
        most = least + 1
    keys = select_keyframes(changes, options(least, most))
    gaps = [after - before for before, after in pairwise(keys)]
    assert keys[0] == 0
    assert keys[-1] == len(changes) - 1
    assert all(gap >= min(least, len(changes) - 1) for gap in gaps)
    if most >= 2 * least:
        assert all(gap <= most for gap in gaps)


@settings(max_examples=50)
@given(changes=changes, interval=st.integers(1, 9))
def test_equal_limits_give_equal_intervals(changes, interval):
    keys = select_keyframes(changes, options(interval, interval))
    assert keys == list(range(0, len(changes), interval))


def test_a_static_clip_gets_key_frames_too():
    keys = select_keyframes(np.zeros(41), options(5, 10))
    assert max(after - before for before, after in pairwise(keys)) <= 10


def test_the_largest_change_comes_first():
    changes = np.full(31, 0.1)
    changes[17] = 5
    assert select_keyframes(changes, options(5, 20)) == [0, 17, 30]


def test_no_frame_has_no_key_frame():
    assert select_keyframes(np.zeros(0), options(2, 5)) == []


@pytest.mark.parametrize(("least", "most"), [(0, 5), (6, 5), (-1, -1)])
def test_impossible_intervals_are_refused(least, most):
    with pytest.raises(InputError, match=f"{least} to {most} frames apart"):
        options(least, most)


@settings(max_examples=200)
@given(num_keys=st.integers(0, 60), size=st.integers(3, 12))
def test_batches_emit_every_key_frame_once_and_share_two(num_keys, size):
    keys = list(range(0, 3 * num_keys, 3))
    batches = plan_batches(keys, size)
    assert [frame for batch in batches for frame in batch.new] == keys
    assert all(1 <= len(batch.frames) <= size for batch in batches)
    for before, batch in pairwise(batches):
        assert batch.num_anchors == 2
        assert batch.frames[:2] == (keys[0], before.frames[-1])
        assert len(set(before.frames) & set(batch.frames)) == 2
    if len(batches) > 1:
        assert len(batches[-1].new) >= min(3, (size - 1) // 2)
    if num_keys > 2:
        assert len(batches) == max(1, -(-(num_keys - 2) // (size - 2)))


def test_batches_are_those_of_the_paper():
    """{1, (k-1)(N-2)+2, ..., k(N-2)+2}, counted from 1."""
    batches = plan_batches(range(20), 8)
    assert [batch.frames for batch in batches] == [
        (0, 1, 2, 3, 4, 5, 6, 7),
        (0, 7, 8, 9, 10, 11, 12, 13),
        (0, 13, 14, 15, 16, 17, 18, 19),
    ]


def test_a_small_last_batch_takes_from_the_one_before():
    batches = plan_batches(range(9), 8)
    assert [batch.frames for batch in batches] == [(0, 1, 2, 3, 4, 5), (0, 5, 6, 7, 8)]


@pytest.mark.parametrize("num_keys", [1, 2, 8])
def test_few_key_frames_are_one_batch_without_anchors(num_keys):
    (batch,) = plan_batches(range(num_keys), 8)
    assert batch.num_anchors == 0
    assert batch.frames == tuple(range(num_keys))


def test_a_batch_without_room_for_a_new_frame_is_refused():
    with pytest.raises(InputError, match="batches of 2 frames"):
        plan_batches(range(9), 2)


def test_equal_frames_do_not_change_and_any_size_works():
    frame = np.random.default_rng(0).integers(0, 256, (9, 23, 3)).astype(np.uint8)
    measured = measure_changes([frame, frame, 255 - frame])
    assert measured[0] == measured[1] == 0
    assert measured[2] > 0


def test_agrees_with_the_reference(shared):
    stored = load_file(shared / "parity/fresco/keyframes.safetensors")
    for name, keys in stored.items():
        sequence, _, limits = name.partition(".keys_")
        if limits:
            least, most = map(int, limits.split("_"))
            distance = stored[f"{sequence}.distance"].numpy()
            assert select_keyframes(distance, options(least, most)) == keys.tolist()
