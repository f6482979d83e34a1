"""A batch's correspondence: cyclic, found by stride or token count, whole at any size."""

import pytest
import torch
from safetensors.torch import load_file

from legato.flow.correspondence import CyclicMotion, correspond, follow, link, with_occlusions
from legato.flow.dis import DisFlow
from legato.flow.occlusion import changed, occluded
from legato.flow.resample import cover_mask, resample_flow, resample_mask


def textured(num_frames=3, rows=64, cols=96, step=2):
    """A smooth texture that moves to the right."""
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, rows // 4, (cols + 40) // 4), size=(rows, cols + 40), mode="bicubic"
    )
    starts = [20 - step * t for t in range(num_frames)]
    return torch.cat([wide[..., start : start + cols] for start in starts]) * 2 - 1


@pytest.mark.parametrize("shift", [1, 3])
def test_a_constant_flow_is_occluded_only_where_it_leaves_the_frame(shift):
    flow = torch.zeros(1, 2, 6, 10)
    flow[:, 0] = shift
    expected = torch.zeros(1, 6, 10, dtype=torch.bool)
    expected[..., 10 - shift :] = True
    assert torch.equal(occluded(flow, -flow), expected)


def test_a_changed_colour_counts_from_a_quarter_of_the_range():
    dark, still = torch.full((1, 3, 4, 4), -0.5), torch.zeros(1, 2, 4, 4)
    assert not changed(dark, dark + 0.49, still).any()
    assert changed(dark, dark + 0.51, still).all()


def test_outside_the_frame_is_black_not_grey():
    away = torch.full((1, 2, 4, 4), 50.0)
    assert changed(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), away).all()
    assert not changed(-torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), away).any()


def test_the_last_pair_leads_back_to_the_first_frame():
    frames = textured(num_frames=3, step=2)
    motion = follow(frames, DisFlow("medium"))
    middle = motion.flow_forward[:, 0, 16:-16, 16:-16].median(dim=-1).values.median(dim=-1).values
    torch.testing.assert_close(middle, torch.tensor([2.0, 2.0, -4.0]), atol=0.3, rtol=0)


def test_one_frame_corresponds_to_itself():
    found = correspond(textured(num_frames=1), DisFlow("medium"))
    assert found.motion.flow_forward.abs().max() < 0.1
    links = found.at(stride=8)
    assert links.unique.shape == (1, 8 * 12)
    assert links.unique.all()
    assert torch.equal(links.trajectories.permutation[0, 0], torch.arange(96))


def test_a_static_clip_shows_everything_in_its_first_frame():
    found = correspond(textured(num_frames=3, step=0), DisFlow("medium"))
    for links in found.links:
        assert links.unique[0].all()
        assert not links.unique[1:].any()
        assert links.trajectories.linked.all()


def test_links_are_found_by_stride():
    found = correspond(textured(), DisFlow("medium"))
    assert [links.size for links in found.links] == [(8, 12), (4, 6), (2, 3)]
    assert found.at(stride=16) is found.links[1]
    with pytest.raises(KeyError):
        found.at(stride=4)


def test_sides_that_a_stride_does_not_divide_are_rounded_up():
    frames = textured(rows=36, cols=44)
    links = link(frames, follow(frames, DisFlow("medium")), stride=8)
    assert links.size == (5, 6)
    assert links.trajectories.permutation.shape == (3, 1, 30)


def test_everything_moves_to_a_device():
    moved = correspond(textured(), DisFlow("medium"), strides=(8,)).to("meta")
    links = moved.at(stride=8)
    tensors = [moved.motion.flow_forward, moved.motion.flow_backward]
    tensors += [moved.motion.occluded_forward, moved.motion.occluded_backward, links.unique]
    paths = links.trajectories
    tensors += [paths.permutation, paths.inverse, paths.linked]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_a_smaller_flow_is_in_its_own_pixels():
    flow = torch.tensor([8.0, -4.0]).view(1, 2, 1, 1).expand(1, 2, 16, 32)
    small = resample_flow(flow, (4, 16))
    assert torch.equal(small, torch.tensor([4.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 16))


def test_one_pixel_occludes_a_cell_for_losses_but_not_for_attention():
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, 3, 3] = True
    assert cover_mask(mask, (2, 2)).tolist() == [[[True, False], [False, False]]]
    assert not resample_mask(mask, (2, 2)).any()


def test_half_of_a_cells_middle_still_counts_as_visible():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 3, 3:5] = True
    assert not resample_mask(mask, (1, 1)).any()
    mask[0, 4, 3] = True
    assert resample_mask(mask, (1, 1)).all()


def test_agrees_with_the_reference(shared):
    stored = load_file(shared / "parity/fresco/correspondence.safetensors")
    frames = stored["images"].permute(0, 3, 1, 2).float() / 127.5 - 1
    motion = with_occlusions(frames, stored["flow_fwd"], stored["flow_bwd"])
    assert isinstance(motion, CyclicMotion)
    assert torch.equal(motion.occluded_backward, stored["occ_bwd"].bool())
    links = link(frames, motion, stride=8)
    assert torch.equal(links.unique, stored["unique_mask_8"])
    assert torch.equal(links.trajectories.permutation, stored["perm_8"])
    assert torch.equal(links.trajectories.linked, stored["link_mask_8"])
