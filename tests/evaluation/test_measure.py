import numpy as np
import pytest
import torch
from judged import truth_clip, worse_clip

from legato.errors import InputError
from legato.evaluation.fidelity import IDENTICAL_DB, psnr
from legato.evaluation.measure import (
    WITH_REFERENCE,
    WITHOUT_REFERENCE,
    Instruments,
    measure,
)
from legato.evaluation.niqe import NaturalModel
from legato.evaluation.steadiness import correspondences, flicker, warping_error
from legato.flow.dis import DisFlow

CONTENT = ("tem_con", "clipsim", "fram_acc", "spat_con")  # need a CLIP model
NAMED = ("dists", "warping_raft", "musiq", "clipiqa")  # need weights that the user names


def against(clip, truth, **instruments):
    return measure("x", zip(clip, truth, strict=True), Instruments(**instruments))


def alone(clip, **instruments):
    return measure("x", ((picture, None) for picture in clip), Instruments(**instruments))


def mean_distance(a, b):
    return (a - b).abs().mean(dim=(1, 2, 3))


def test_identical_clips_are_perfect():
    means = against(truth_clip(), truth_clip(), distance=mean_distance).means
    assert (means["psnr"], means["psnr_y"]) == (IDENTICAL_DB, IDENTICAL_DB)
    assert (means["ssim"], means["ssim_y"]) == pytest.approx((1, 1))
    assert [means[key] for key in ("shift", "lpips", "tof", "flicker")] == pytest.approx([0] * 4)


def test_frame_by_frame_equals_the_clip_as_a_whole():
    truth, clip = truth_clip(num_frames=5), worse_clip(truth_clip(num_frames=5))
    figures = against(clip, truth)
    assert figures.means["psnr"] == pytest.approx(psnr(clip, truth))
    assert figures.means["flicker"] == pytest.approx(flicker(clip, truth))
    assert figures.means["warping"] == pytest.approx(warping_error(clip, correspondences(truth)))
    unmasked = warping_error(clip, correspondences(truth), masked=False)
    assert figures.means["pixel_mse"] == pytest.approx(unmasked)
    assert [len(figures.series[k]) for k in ("psnr", "tof", "lattice")] == [5, 4, 1]
    assert (figures.num_frames, figures.size) == (5, (96, 64))


def test_a_second_estimator_gives_a_second_warping_error():
    truth, clip = truth_clip(), worse_clip(truth_clip())
    means = against(clip, truth, raft=DisFlow("medium"), dists=mean_distance).means
    assert means["warping_raft"] == means["warping"]  # the pan has no motion boundary
    assert means["dists"] == against(clip, truth, distance=mean_distance).means["lpips"]
    assert against(clip, truth, raft=DisFlow("ultrafast")).means["warping_raft"] != means["warping"]


def test_the_second_warping_error_alone_leaves_motion_boundaries_out():
    truth, clip = truth_clip(num_frames=2), worse_clip(truth_clip(num_frames=2))
    clip[1, :, 47] = 255 - clip[1, :, 47]  # the column before the edge below

    def step_edge(frames):
        flow = torch.zeros(1, 2, *frames.shape[-2:])
        flow[:, 1, :, 48:] = 0.5
        return flow, -flow

    means = against(clip, truth, raft=step_edge).means
    counted, left_out = (
        warping_error(clip, correspondences(truth, step_edge, boundaries=b)) for b in (False, True)
    )
    assert means["warping_raft"] == pytest.approx(left_out)
    assert left_out < 0.95 * counted
    assert means["warping"] == pytest.approx(warping_error(clip, correspondences(truth)))


def test_noise_worsens_every_figure_of_fidelity():
    truth = truth_clip()
    a, b = (against(worse_clip(truth, s), truth, distance=mean_distance).means for s in (3, 12))
    better = {key: a[key] > b[key] for key in ("psnr", "psnr_y", "ssim", "ssim_y")}
    better |= {key: a[key] < b[key] for key in ("lpips", "warping", "tof", "flicker")}
    assert all(better.values()), better


def test_a_shifted_clip_is_found():
    truth = truth_clip(size=(128, 96))
    figures = against(np.roll(truth, 1, axis=2), truth)
    assert figures.registration.x == pytest.approx(1, abs=0.1)
    assert figures.registration.is_shifted


def test_columns_come_in_the_order_of_the_table():
    assert list(against(truth_clip(), truth_clip(), distance=mean_distance).series) == [
        key for key in WITH_REFERENCE if key not in ("vmaf", *CONTENT, *NAMED)
    ]


def test_without_reference_natural_figures_are_taken():
    clip = truth_clip(size=(192, 192), num_frames=2)
    figures = alone(clip, natural=NaturalModel.load())
    assert list(figures.series) == [
        key for key in WITHOUT_REFERENCE if key not in (*CONTENT, *NAMED)
    ]
    assert figures.registration is None


def test_small_clips_have_no_niqe_and_single_frames_no_motion():
    assert "niqe" not in alone(truth_clip(), natural=NaturalModel.load()).series
    assert "own_flicker" not in alone(truth_clip()[:1]).series


def test_flicker_shows_in_the_spectrum():
    truth = truth_clip(num_frames=8) // 2
    clip = truth.copy()
    clip[::2] += 6
    assert against(clip, truth).spectrum[-1] == pytest.approx(3, abs=0.2)
    assert against(truth, truth).spectrum == pytest.approx([0] * 5)


def test_tiny_and_empty_clips_are_refused_by_name():
    with pytest.raises(InputError, match="clip x of 20x64"):
        alone(truth_clip()[:, :, :20])
    with pytest.raises(InputError, match="clip x"):
        alone(truth_clip()[:0])
