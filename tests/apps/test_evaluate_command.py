import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import pixels_of, texture, write_clip
from safetensors.torch import save_file

from legato.apps import cli
from legato.evaluation.lpips import LPIPS


@pytest.fixture
def roots(tmp_path):
    """Two results that are noisier and noisier, and their references."""
    for k in range(2):
        clip = texture(3, (64, 48))
        noise = np.random.default_rng(k).normal(0, 5 + 5 * k, clip.shape)
        worse = (clip + noise).clip(0, 255).astype(np.uint8)
        for root, frames in (("truths", clip), ("results", worse)):
            (tmp_path / root).mkdir(exist_ok=True)
            write_clip(tmp_path / root / f"c{k}.mkv", frames, sound=False)
    return [str(tmp_path / "results"), str(tmp_path / "truths")]


@pytest.fixture
def evaluated(roots, tmp_path, capsys):
    """Run the command with flags; return what it printed and the folder's contents by suffix."""

    def run(*flags, out="out"):
        assert cli.main(["evaluate", *roots, "--out", str(tmp_path / out), *flags]) == 0
        files = {p.suffix: p.read_text(encoding="utf-8") for p in (tmp_path / out).iterdir()}
        return capsys.readouterr().out, files

    return run


def test_the_table_is_printed_and_written(evaluated):
    printed, files = evaluated()
    assert printed == files[".md"]
    assert printed.startswith("| clip ")
    assert [line.split("|")[1].strip() for line in printed.splitlines()[2:6]] == [
        *("c0", "c1", "mean", "95% over clips")
    ]


def test_json_prints_what_the_file_holds(evaluated):
    printed, files = evaluated("--json")
    assert json.loads(printed) == json.loads(files[".json"])


def test_frames_limits_what_is_judged(evaluated):
    clips = json.loads(evaluated("--frames", "2", "--json")[0])["clips"]
    assert [clip["num_frames"] for clip in clips.values()] == [2, 2]
    assert [len(clip["series"]["psnr"]) for clip in clips.values()] == [2, 2]


def test_shown_limits_the_pictures(evaluated):
    pages = [evaluated("--shown", str(n), out=f"o{n}")[1][".html"] for n in (0, 2)]
    assert [page.count("<h2>") for page in pages] == [0, 2]
    assert "2 more clips" in pages[0]


def test_the_seed_changes_the_intervals_only(roots, tmp_path, capsys):
    single = [f"{root}/long.mkv" for root in roots]
    for k, path in enumerate(single):
        write_clip(Path(path), np.roll(texture(6, (48, 48)), k, axis=0), sound=False)
    found = []
    for seed in ("0", "1"):
        flags = ["--seed", seed, "--json", "-o", str(tmp_path / "o")]
        assert cli.main(["evaluate", *single, *flags]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["means"] == found[1]["means"]
    assert found[0]["intervals_95"] != found[1]["intervals_95"]


def test_lpips_weights_add_a_column(evaluated, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "w.safetensors"
    save_file(LPIPS().state_dict(), weights)
    assert "LPIPS" in evaluated("--lpips", str(weights))[0].splitlines()[0]


@pytest.mark.parametrize("flag", ["--lpips", "--dists"])
def test_a_picture_is_no_weights(roots, tmp_path, capsys, flag):
    picture = tmp_path / "s.png"
    cv2.imwrite(str(picture), np.zeros((8, 8, 3), np.uint8))
    assert cli.main(["evaluate", *roots, "-o", str(tmp_path / "o"), flag, str(picture)]) == 3
    said = capsys.readouterr().err
    assert "s.png cannot be read as weights alone: Weights only load failed;" in said
    assert not (tmp_path / "o").exists()


def test_without_references(roots, tmp_path, capsys):
    assert cli.main(["evaluate", roots[0], "-o", str(tmp_path / "o")]) == 0
    printed = capsys.readouterr().out
    assert "lattice energy" in printed
    assert "PSNR" not in printed


def test_clips_that_do_not_fit_are_one_line_and_exit_code_2(roots, tmp_path, capsys):
    write_clip(tmp_path / "truths" / "c1.mkv", texture(7, (64, 48)), sound=False)
    assert cli.main(["evaluate", *roots, "-o", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("error: clip c1: 3 frames against 7")


def test_degrade_takes_severity_and_seed(roots, tmp_path, capsys):
    runs = []
    for k, flags in enumerate((["s1"], ["s3"], ["s3", "--seed", "5"])):
        target = tmp_path / f"small{k}"
        assert cli.main(["degrade", roots[1], str(target), "--severity", *flags]) == 0
        assert capsys.readouterr().out.splitlines() == [str(target / f"c{k}.mkv") for k in (0, 1)]
        runs.append(pixels_of(target / "c0.mkv"))
    assert runs[0].shape == (3, 12, 16, 3)
    assert len({run.tobytes() for run in runs}) == 3


@pytest.mark.parametrize("flags", [[], ["--severity", "s4"], ["--severity", "s1", "--seed", "-1"]])
def test_degrade_refuses_bad_flags_in_one_line(roots, tmp_path, capsys, flags):
    assert cli.main(["degrade", roots[0], str(tmp_path / "x"), *flags]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_quiet_shows_no_progress(roots, tmp_path, capsys):
    for command in (
        ["evaluate", *roots, "-o", str(tmp_path / "o")],
        ["degrade", roots[1], str(tmp_path / "small"), "--severity", "s1"],
    ):
        assert cli.main([*command, "--quiet"]) == 0
        said = capsys.readouterr()
        assert said.out
        assert said.err == ""
