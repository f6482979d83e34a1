import sys

import pytest
from judged import truth_clip, worse_clip

from legato.errors import ResourceError
from legato.evaluation.vmaf import VmafMeter, find_vmaf


def measured(clip, truth):
    program, reason = find_vmaf()
    if program is None:
        pytest.skip(reason)
    with VmafMeter(program) as meter:
        for picture, true in zip(clip, truth, strict=True):
            meter.add(picture, true)
        return meter.scores()


def test_identical_clips_score_highest_and_noise_lowers():
    truth = truth_clip(num_frames=3, size=(97, 63))
    same, noisy = measured(truth, truth), measured(worse_clip(truth, sigma=40), truth)
    assert len(same) == len(noisy) == 3
    assert min(same) > max(noisy)
    assert 0 <= min(noisy) <= max(same) <= 100


def test_without_the_package_one_sentence_says_how_to_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    program, reason = find_vmaf()
    assert program is None
    assert "pip install" in reason


def program_that(tmp_path, text):
    path = tmp_path / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def package_with(monkeypatch, program):
    class Package:
        @staticmethod
        def get_ffmpeg_exe():
            return str(program)

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", Package)


def test_a_program_without_libvmaf_is_not_used(monkeypatch, tmp_path):
    package_with(monkeypatch, program_that(tmp_path, "echo ' .. scale V->V'"))
    assert "without libvmaf" in find_vmaf()[1]


def test_a_program_with_libvmaf_is_used(monkeypatch, tmp_path):
    program = program_that(tmp_path, "echo ' .. libvmaf VV->V'")
    package_with(monkeypatch, program)
    assert find_vmaf() == (program, "")


def test_a_failing_program_is_one_error(tmp_path):
    program = program_that(tmp_path, "echo no such model >&2; exit 1")
    clip = truth_clip(num_frames=1)
    with VmafMeter(program) as meter:
        meter.add(clip[0], clip[0])
        with pytest.raises(ResourceError, match="no such model"):
            meter.scores()


def test_its_files_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    clip = truth_clip(num_frames=1)
    with VmafMeter(tmp_path / "none") as meter:
        meter.add(clip[0], clip[0])
        assert len(list(tmp_path.rglob("*.yuv"))) == 2
    assert list(tmp_path.iterdir()) == []
