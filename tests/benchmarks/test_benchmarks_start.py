"""The benchmarks are run by hand; here only that each starts, and the parts that can be wrong."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import tiny_autoencoder_kl, tiny_upscaler_folder
from torch.utils.flop_counter import FlopCounterMode

from legato.device import choose_device, choose_dtype, largest_int8_weight
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.int8_conv import Int8Conv
from legato.models.load import load_upscaler
from legato.training.generator_stages import DecoderOptions
from legato.training.losses import PixelLoss, PixelLossWeights

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(p for p in FOLDER.glob("*.py") if "__main__" in p.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_explains_itself(script):
    subprocess.run([sys.executable, script, "--help"], check=True, capture_output=True)


def test_held_back_sources_become_clips_that_move(tmp_path):
    from held_back import LARGEST, cut

    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (1200, 900))
    cv2.imwrite(str(tmp_path / "large.png"), picture)
    cv2.imwrite(str(tmp_path / "small.png"), picture[:300, :400])
    large, small = (cut(tmp_path / f"{name}.png", 3) for name in ("large", "small"))
    assert large.shape == (3, *LARGEST, 3)
    assert small.shape == (3, 300, 400, 3)
    in_the_middle = small[0]
    assert np.array_equal(in_the_middle, picture[:300, :400, ::-1])
    assert 0.5 < np.abs(large[1].astype(float) - large[0]).mean() < 30


def test_a_shorter_cut_is_the_beginning_of_a_longer_one(tmp_path):
    from held_back import cut

    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.resize(picture, (1200, 900)))
    short, long = (cut(tmp_path / "a.png", frames) for frames in (3, 6))
    assert np.array_equal(long[:3], short)


def test_bicubic_keeps_a_constant_clip():
    from peers import bicubic

    large = bicubic(np.full((2, 5, 6, 3), 77, np.uint8))
    assert large.shape == (2, 20, 24, 3)
    assert (large == 77).all()


def test_lossless_clips_come_back_bit_for_bit(tmp_path):
    from media import read_clip, write_lossless

    clip = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3)).astype(np.uint8)
    assert np.array_equal(read_clip(write_lossless(tmp_path / "c.mkv", clip)), clip)


def test_crops_show_the_most_detailed_place(tmp_path):
    from media import save_crops

    picture = np.zeros((128, 160, 3), np.uint8)
    picture[90:120:2, 110:150] = 255
    save_crops(tmp_path / "crops.png", {"a": picture, "b": picture // 2}, size_px=64)
    saved = cv2.imread(str(tmp_path / "crops.png"))
    assert saved.shape == (88, 128, 3)
    assert saved[24:, :64].mean() > 25
    assert np.abs(saved[24:, 64:].astype(int) - saved[24:, :64] // 2).max() <= 1


def test_products_added_in_place_are_counted():
    from macs import EXTRA

    with FlopCounterMode(display=False, custom_mapping=EXTRA) as counter:
        torch.zeros(5, 7).addmm_(torch.zeros(5, 3), torch.zeros(3, 7))
    assert counter.get_total_flops() == 2 * 5 * 3 * 7


@pytest.mark.skipif(not largest_int8_weight(), reason="needs a CPU that multiplies 8-bit integers")
def test_a_convolution_of_integers_counts_as_one_of_floats():
    from macs import EXTRA

    counts = []
    conv = torch.nn.Conv2d(32, 48, 3, stride=2, padding=1)
    with torch.no_grad():
        for forward in (conv, Int8Conv(conv, largest_int8_weight())):
            with FlopCounterMode(display=False, custom_mapping=EXTRA) as counter:
                forward(torch.rand(2, 32, 10, 12))
            counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * (2 * 48 * 5 * 6) * (32 * 9)


def test_texture_in_flat_places_is_found_and_nothing_in_a_copy():
    from real import findings

    flat = np.full((2, 64, 64, 3), 90, np.uint8)
    flat[:, :, 32:] += np.arange(0, 64, 2, dtype=np.uint8)[:, None]  # half a ramp, not flat
    woven = flat.copy()
    woven[:, :16, :16:2] += 4
    same, found = findings(flat, flat), findings(woven, flat)
    assert (same.flat_share, same.flat_max, same.colour, same.flicker) == (0.5, 0, 0, 0)
    assert found.flat_max == pytest.approx(2)
    assert found.colour == pytest.approx(2, abs=0.2)


def test_a_variant_decodes_as_it_is_told(tmp_path):
    from variants import Variant, restore

    folder, device = tiny_upscaler_folder(tmp_path / "tiny"), choose_device("auto")
    model = load_upscaler(str(folder), device, choose_dtype("auto", device))
    small = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), dtype=np.uint8)
    ways = [Variant(), Variant(decoder=False), Variant(change=torch.zeros_like)]
    made = [restore(model, small, way) for way in ways]
    assert {clip.shape for clip in made} == {(4, 64, 96, 3)}
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_a_second_judge_of_a_decoder_sees_its_frames_in_any_order():
    from comparisons import TwiceJudged

    torch.manual_seed(3)
    decoder = TemporalDecoder(tiny_autoencoder_kl(), TemporalDecoderOptions())
    task = TwiceJudged(
        decoder, PixelLoss(PixelLossWeights(), None), [], DecoderOptions(adversarial_start=0)
    )
    frames = torch.randint(0, 256, (1, 4, 3, 32, 32), dtype=torch.uint8)
    said = []
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        loss, parts = task.loss({"frames": frames[:, order]}, torch.Generator().manual_seed(0))
        said.append(parts)
    loss.backward()
    for name in ("opinion_of_frames", "judged_of_frames"):  # fresh layers see no neighbours
        assert said[0][name] == pytest.approx(said[1][name], rel=1e-4)
    assert said[0]["judged"] != pytest.approx(said[1]["judged"], rel=1e-4)
    for judge in (task.discriminator, task.of_frames):
        assert all(p.grad is not None for p in judge.parameters())
