"""The parity table: every fixture of the reference agrees, and a wrong result would show."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[2]
GOLDENS = Path(__file__).parents[1] / "data" / "parity"


@pytest.fixture(scope="module")
def parity():
    spec = importlib.util.spec_from_file_location("parity", ROOT / "benchmarks" / "parity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_fixture_of_the_reference_agrees(parity, shared):
    results = parity.run(shared / "parity" / "upscale_a_video")
    assert len({result.fixture for result in results}) == 10
    assert not [result for result in results if not result.agrees]


def test_fixtures_of_another_system_are_found_and_agree(parity, shared):
    folder = shared / "parity" / "fresco"
    results = parity.run(folder)
    assert {r.fixture for r in results} == {path.stem for path in folder.glob("*.safetensors")}
    assert not [result for result in results if not result.agrees]


def test_outputs_of_another_shape_do_not_agree(parity):
    assert parity.difference(torch.ones(3), torch.ones(2)) == float("inf")
    assert parity.difference(torch.zeros(2), torch.zeros(2)) == 0


def test_our_own_goldens_agree(parity):
    results = parity.run(GOLDENS)
    assert {result.fixture for result in results} == {"unet_small", "vae_video_small"}
    assert not [result for result in results if not result.agrees]


@pytest.mark.slow
@torch.no_grad()
def test_the_pipeline_in_bfloat16_gives_the_pictures_of_float32(parity, shared):
    folder = shared / "parity" / "upscale_a_video"
    networks = parity.Networks(folder, torch.bfloat16)
    fixture = load_file(folder / "pipeline_plain.safetensors")
    difference = parity.RUNNERS["pipeline_plain"](fixture, networks)["out"] - fixture["out"]
    assert difference.any()
    assert 10 * torch.log10(4 / difference.double().square().mean()) > 40  # dB, range of 2


@pytest.fixture
def wrong(tmp_path):
    """Our goldens with one number changed."""
    (tmp_path / "keys_small.json").write_text((GOLDENS / "keys_small.json").read_text())
    fixture = load_file(GOLDENS / "unet_small.safetensors")
    fixture["out"].view(-1)[5] += 0.01 * fixture["out"].abs().max()
    save_file(fixture, tmp_path / "unet_small.safetensors")
    return tmp_path


def test_a_difference_gives_exit_status_one_and_is_written(parity, wrong, capsys):
    assert parity.main([str(wrong), "--json", str(wrong / "out.json")]) == 1
    assert "TOO LARGE" in capsys.readouterr().out
    assert json.loads((wrong / "out.json").read_text())[0]["difference"] > 2e-4


def test_a_fixture_of_an_unknown_kind_does_not_pass(parity, tmp_path, capsys):
    save_file({"out": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert parity.main([str(tmp_path)]) == 1
    assert "other" in capsys.readouterr().out


def test_an_empty_folder_does_not_pass(parity, tmp_path):
    assert parity.main([str(tmp_path)]) == 1
