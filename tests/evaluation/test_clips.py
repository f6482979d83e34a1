import cv2
import numpy as np
import pytest

from legato.errors import InputError
from legato.evaluation.clips import ClipPair, find_clips, pair_clips, read_clip, read_pair


def make(folder, num_frames=3, size=(48, 40)):
    folder.mkdir(parents=True)
    for t in range(num_frames):
        cv2.imwrite(str(folder / f"{t}.png"), np.full((size[1], size[0], 3), 10 * t, np.uint8))
    return folder


def test_folders_of_images_and_videos_are_clips_in_natural_order(tmp_path):
    make(tmp_path / "c10")
    make(tmp_path / "c2")
    (tmp_path / "b.mp4").touch()
    (tmp_path / "notes").mkdir()
    assert list(find_clips(tmp_path)) == ["b", "c2", "c10"]


def test_a_folder_of_images_is_one_clip(tmp_path):
    assert find_clips(make(tmp_path / "one")) == {"one": tmp_path / "one"}
    assert [p[0, 0, 0] for p in read_clip(tmp_path / "one")] == [0, 10, 20]
    assert len(list(read_clip(tmp_path / "one", 2))) == 2


def test_images_beside_clips_are_refused(tmp_path):
    make(tmp_path / "root" / "c")
    cv2.imwrite(str(tmp_path / "root" / "x.png"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(InputError, match="1 images beside 1 clips"):
        find_clips(tmp_path / "root")


def test_names_that_differ_in_the_suffix_only_are_refused(tmp_path):
    for name in ("a.mp4", "a.mkv"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="two clips are named a"):
        find_clips(tmp_path)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_nothing_to_judge_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"holds no clip|no such file"):
        find_clips(tmp_path / name)


def test_clips_are_paired_by_name_without_suffix(tmp_path):
    for name in ("a", "b"):
        make(tmp_path / "results" / name)
        (tmp_path / "truths").mkdir(exist_ok=True)
        (tmp_path / "truths" / f"{name}.mp4").touch()
    found = pair_clips(tmp_path / "results", tmp_path / "truths")
    assert [(p.name, p.reference.name) for p in found] == [("a", "a.mp4"), ("b", "b.mp4")]


def test_single_clips_are_paired_whatever_their_names(tmp_path):
    found = pair_clips(make(tmp_path / "out"), make(tmp_path / "gt"))
    assert found == [ClipPair(name="out", result=tmp_path / "out", reference=tmp_path / "gt")]


@pytest.mark.parametrize(("results", "truths"), [("ab", "abc"), ("abc", "ab")])
def test_a_clip_without_its_counterpart_is_named(tmp_path, results, truths):
    for root, names in (("results", results), ("truths", truths)):
        for name in names:
            make(tmp_path / root / name)
    with pytest.raises(InputError, match="clip c is not in"):
        pair_clips(tmp_path / "results", tmp_path / "truths")


def test_other_sizes_are_refused_with_both(tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b", size=(96, 80))
    with pytest.raises(InputError, match="clip x: 48x40 against 96x80"):
        list(read_pair(ClipPair(name="x", result=a, reference=b)))


@pytest.mark.parametrize("counts", [(3, 5), (5, 3)])
def test_other_numbers_of_frames_are_refused_with_both(tmp_path, counts):
    a, b = (make(tmp_path / str(k), n) for k, n in enumerate(counts))
    pair = ClipPair(name="x", result=a, reference=b)
    with pytest.raises(InputError, match=rf"clip x: {counts[0]} frames against {counts[1]}"):
        list(read_pair(pair))
    assert len(list(read_pair(pair, 3))) == 3


def test_what_was_mended_is_told(tmp_path):
    folder = make(tmp_path / "a")
    (folder / "1.png").write_bytes(b"broken")
    notices = []
    assert len(list(read_clip(folder, notices=notices))) == 3
    assert "1 of 3 frames" in notices[0]
