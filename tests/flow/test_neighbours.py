"""Motion to the frames on either side, frame by frame."""

import torch
from tiny_upscaler import moving_clip

from legato.flow.neighbours import neighbour_motion


def test_a_slide_is_found_both_ways():
    motion = torch.stack(list(neighbour_motion(moving_clip(4, 48, 64))))
    assert motion.shape == (4, 6, 48, 64)
    inner = motion[1:3, :, 8:-8, 8:-8]
    x, y, trust = (inner.unflatten(1, (2, 3))[:, :, k] for k in range(3))
    assert trust.mean() > 0.9
    for found, expected in ((x, 2.0), (y, 1.0)):
        torch.testing.assert_close(found[:, 0].median(), torch.tensor(expected), atol=0.2, rtol=0)
        torch.testing.assert_close(found[:, 1].median(), torch.tensor(-expected), atol=0.2, rtol=0)


def test_ends_have_nothing_beyond_them():
    first, last = neighbour_motion(moving_clip(2, 40, 40))
    assert not first[:3].any()
    assert not last[3:].any()
    assert first[5].any()
    assert last[2].any()
    (alone,) = neighbour_motion(moving_clip(1, 40, 40))
    assert not alone.any()


def test_a_frame_depends_on_its_neighbours_alone():
    clip = moving_clip(6, 40, 48)
    whole, part = list(neighbour_motion(clip)), list(neighbour_motion(clip[1:4]))
    assert torch.equal(part[1], whole[2])
