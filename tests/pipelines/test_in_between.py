"""Frames between key frames: the looks of the keys carried along, one interval in memory."""

import cv2
import numpy as np
import pytest
import torch

from legato.flow.dis import DisFlow
from legato.pipelines.in_between import FlowBlend, Interpolator, _Carrier, fill

ROWS, COLS = 48, 64


def shot(num_frames, step=1, rows=ROWS, cols=COLS):
    """A smooth coloured texture that moves to the left."""
    coarse = np.random.default_rng(0).integers(40, 216, (rows // 6, (cols + 60) // 6, 3))
    wide = cv2.resize(coarse.astype(np.uint8), (cols + 60, rows), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:, step * t : step * t + cols]) for t in range(num_frames)]


def styled(picture):
    """Another look: dimmed, red and blue swapped."""
    return np.ascontiguousarray(picture[..., ::-1] // 2 + 40)


def look(picture):
    """A picture as a look."""
    return picture.astype(np.float32) / 255


def labels(frames, first, last):
    """An interpolator that only tells between which key frames it was asked to work."""
    yield from map(look, frames[1:] if last is None else frames[1:-1])


@pytest.mark.parametrize("keys", [[0], [0, 1], [0, 4, 9], [0, 3, 6], [0, 1, 2, 9]])
def test_every_frame_is_there_once_and_in_order(keys):
    frames = [np.full((2, 2, 3), t, np.uint8) for t in range(10)]
    looks = [look(frames[key] + 100) for key in keys]
    filled = list(fill(frames, keys, looks, labels))
    assert [round(255 * float(f[0, 0, 0])) for f in filled] == [
        t + 100 * (t in keys) for t in range(10)
    ]


def test_no_more_than_one_interval_is_held():
    """Frames are read when they are needed: up to the next key frame, no further."""
    read = []

    def source():
        for t in range(13):
            read.append(t)
            yield np.full((2, 2, 3), t, np.uint8)

    keys = [0, 4, 8, 12]
    looks = (np.zeros((2, 2, 3), np.float32) for _ in keys)
    held = [len(read) for _ in fill(source(), keys, looks, labels)]
    assert len(held) == 13
    assert all(count <= 4 * (t // 4 + 1) + 1 for t, count in enumerate(held))


@pytest.mark.parametrize("keys", [[], [1, 4]])
def test_key_frames_that_do_not_begin_with_the_shot_are_refused(keys):
    with pytest.raises(ValueError, match="do not begin with the shot"):
        list(fill(shot(5), keys, [], labels))


def test_a_missing_look_is_told():
    frames = shot(5)
    with pytest.raises(ValueError, match="key frame 4 has no look"):
        list(fill(frames, [0, 4], [look(frames[0])], labels))


def test_flow_blend_is_an_interpolator():
    assert isinstance(FlowBlend(DisFlow()), Interpolator)


@pytest.mark.parametrize("keys", [[0, 5], [0, 3, 5], [0]])
def test_the_look_follows_the_motion(keys):
    frames = shot(6)
    expected = [look(styled(frame)) for frame in frames]
    looks = [expected[key] for key in keys]
    filled = list(fill(frames, keys, looks, FlowBlend(DisFlow())))
    assert len(filled) == 6
    for got, want in zip(filled, expected, strict=True):
        assert got.dtype == np.float32
        inside = abs(got - want)[8:-8, 8:-8]
        assert inside.mean() < 3 / 255


def test_a_still_shot_with_equal_looks_stays_as_it_is():
    frame = shot(1)[0]
    key = look(styled(frame))
    filled = list(FlowBlend(DisFlow())([frame] * 5, key, key))
    assert len(filled) == 3
    for got in filled:
        assert abs(got - key).max() <= 1 / 255


@pytest.mark.parametrize("last", [True, False])
def test_gradients_finer_than_8_bits_survive(last):
    frame = shot(1)[0]
    ramp = np.linspace(0.4, 0.41, COLS, dtype=np.float32)  # between two or three levels of 8 bits
    key = np.ascontiguousarray(np.broadcast_to(ramp[:, None], (ROWS, COLS, 3)))
    filled = list(FlowBlend(DisFlow())([frame] * 4, key, key if last else None))
    assert len(filled) == (2 if last else 3)
    for got in filled:
        assert len(np.unique((got[ROWS // 2, :, 0] * 4095).round())) > 30


def test_different_looks_change_over_in_time():
    frame = shot(1)[0]
    dark, bright = look(frame // 2), look(frame // 2 + 100)
    means = [got.mean() for got in FlowBlend(DisFlow())([frame] * 6, dark, bright)]
    assert len(means) == 4
    steps = np.diff([dark.mean(), *means, bright.mean()])
    assert all(15 / 255 < step < 25 / 255 for step in steps)


def test_what_has_changed_over_to_the_later_key_frame_stays_so_where_it_moves():
    """A bright thing, which the earlier key frame lacks, is hidden in the last frame between.

    There the earlier key frame alone would be believed, whose look has no stripes.
    """
    step, thing = 4, slice(24, 36)

    def drift(pair):
        there = torch.tensor([float(step), 0.0]).view(1, 2, 1, 1).expand(1, 2, ROWS, COLS)
        return there, -there

    def seen(at, is_there):
        frame = np.full((ROWS, COLS, 3), 90, np.uint8)
        frame[12:36, thing.start + step * at : thing.stop + step * at] += 110 * is_there
        return frame

    frames = [seen(at, is_there) for at, is_there in enumerate([False, True, False, True])]
    plain = np.full((ROWS, COLS, 3), 0.4, np.float32)
    striped = plain + np.where(np.arange(ROWS) % 2, 0.1, -0.1).astype(np.float32)[:, None, None]
    _, got = FlowBlend(drift)(frames, plain, striped)
    inside = got[14:34, thing.start + 2 * step + 1 : thing.stop + 2 * step - 1]
    assert abs(np.diff(inside, axis=0)).min() > 0.1


def test_what_lies_outside_a_key_frame_is_not_trusted_there():
    """Where the border goes on outwards, only the flow tells."""
    flat = np.full((8, 12, 3), 90, np.uint8)
    there = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 8, 12)
    _, error = _Carrier(flat, look(flat)).carry(flat, there, -there)
    assert (error[:2] > 9).all()
    assert (error[:, 9:] > 9).all()
    assert (error[2:, :9] < 0.1).all()


def test_flow_from_a_key_frame_is_read_where_it_has_come_to():
    """All move by three columns, and then the right half by two more: both lead home exactly."""
    flat = np.full((4, 12, 3), 90, np.uint8)
    carrier = _Carrier(flat, look(flat))
    first, onward, home = torch.zeros(3, 1, 2, 4, 12)
    first[:, 0] = 3.0
    onward[:, 0, :, 6:], home[:, 0, :, 8:] = 2.0, -2.0
    carrier.carry(flat, -first, first)
    _, error = carrier.carry(flat, home, onward)
    assert (error[:, [3, 4, 5, 8, 9, 10, 11]] < 0.1).all()


@pytest.mark.slow
def test_long_intervals_are_crossed_step_by_step():
    frames = shot(29)
    looks = [look(styled(frames[0])), look(styled(frames[28]))]
    filled = list(fill(frames, [0, 28], looks, FlowBlend(DisFlow())))
    middle = abs(filled[14] - look(styled(frames[14])))[8:-8, 20:-20]
    assert middle.mean() < 4 / 255


@pytest.mark.parametrize("size", [(32, 33), (33, 32), (1, 1), (35, 51)])
def test_odd_sizes_work(size):
    frames = [np.full((*size, 3), 50 + t, np.uint8) for t in range(3)]
    (got,) = FlowBlend(DisFlow())(frames, look(frames[0]), look(frames[2]))
    assert got.shape == (*size, 3)
    assert abs(got - 0.2).max() <= 2 / 255


def test_unrelated_frames_still_give_a_picture():
    """All flow is wrong: a blend by nearness remains."""
    frames = [
        np.random.default_rng(t).integers(0, 256, (40, 40, 3)).astype(np.uint8) for t in (1, 2, 3)
    ]
    (got,) = FlowBlend(DisFlow())(frames, look(frames[0]), look(frames[2]))
    assert got.shape == frames[0].shape
    assert got.std() > 5 / 255
