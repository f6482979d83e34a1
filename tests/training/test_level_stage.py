"""Only the embedding of the levels learns, on lines that start at level 0, which stays."""

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from test_refining_stage import batch
from torch.nn.utils import parametrize

from legato.evaluation.clips import read_clip
from legato.flow.dis import DisFlow
from legato.models.load import load_upscaler
from legato.pipelines.restore import RestoreOptions, Restorer
from legato.training import recipes
from legato.training.level_stage import KNOTS, LedLevels, LevelTask
from legato.training.losses import PixelLoss, PixelLossWeights, grain_excess, texture_deficit
from legato.training.stages import StageOptions


@pytest.fixture
def system(monkeypatch):
    monkeypatch.setitem(recipes.UNET, "block_out_channels", (16, 16, 32, 32))
    torch.manual_seed(0)
    return recipes.build_embedded()


def task(system):
    loss = PixelLoss(PixelLossWeights(lattice=0.0), None)
    return LevelTask(system, loss, [batch()], StageOptions(warping_weight=0.0))


def test_rows_lie_on_lines_from_row_0_and_those_beyond_stay():
    led, rows = LedLevels(3), torch.randn(300, 3)
    assert torch.equal(led(rows)[: KNOTS[-1] + 1], rows[:1].expand(KNOTS[-1] + 1, 3))
    torch.nn.init.normal_(led.turns)
    found = led(rows)
    assert torch.equal(found[0], rows[0])
    assert torch.equal(found[KNOTS[-1] + 1 :], rows[KNOTS[-1] + 1 :])
    for knot, turn in zip(KNOTS[1:], led.turns, strict=True):
        torch.testing.assert_close(found[knot], rows[0] + turn)
    for low, high in pairwise(KNOTS):
        middle = (low + high) // 2
        part = (middle - low) / (high - low)
        torch.testing.assert_close(found[middle], torch.lerp(found[low], found[high], part))


def test_only_the_embedding_learns_and_keeps_what_it_learned(system):
    before = {name: value.clone() for name, value in system.state_dict().items()}
    stage = task(system)
    optimizer = torch.optim.SGD([p for p in system.parameters() if p.requires_grad], lr=1e3)
    stage.loss(batch(), torch.Generator().manual_seed(0))[0].backward()
    optimizer.step()
    stage.keep()
    after = system.state_dict()
    assert after.keys() == before.keys()
    changed = [name for name in after if not torch.equal(after[name], before[name])]
    assert [name.split(".")[-2] for name in changed] == ["class_embedding"]
    rows = after[changed[0]]
    assert torch.equal(rows[0], before[changed[0]][0])
    assert not torch.equal(rows[KNOTS[1]], rows[0])
    assert not parametrize.is_parametrized(stage.embedding)


def test_more_texture_is_asked_for_at_higher_levels(system, monkeypatch):
    stage, clip = task(system), batch()
    asked = {}
    for level in (1, 60, KNOTS[-1]):
        monkeypatch.setattr(torch, "randint", lambda *_, level=level, **__: torch.tensor(level))
        with torch.no_grad():
            asked[level] = stage.loss(clip, torch.Generator().manual_seed(0))
    for level, (total, figures) in asked.items():
        assert figures["level"] == level
        others = sum(figures[name] for name in ("l1", "spectral", "grain", "detail"))
        weight = (total.item() - others) / figures["missing"]
        assert weight == pytest.approx(40 * (level / KNOTS[-1]) ** 1.4, rel=1e-3, abs=1e-3)


def test_missing_texture_is_the_other_side_of_excess():
    smooth = torch.zeros(1, 3, 32, 32)
    rough = 0.2 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert texture_deficit(smooth, rough) == grain_excess(rough, smooth) > 0.05
    assert texture_deficit(rough, smooth) == grain_excess(smooth, rough) == 0


def test_the_shipped_levels_above_0_show_more_texture():
    demo = Path(__file__).parents[2] / "demo" / "clip.mp4"
    first = np.stack(list(islice(read_clip(demo), 2)))
    frames = torch.from_numpy(first).permute(0, 3, 1, 2)[..., 20:84, 60:124]
    clip, cpu = frames.float() / 127.5 - 1, torch.device("cpu")
    model = load_upscaler("embedded-x4", cpu, torch.float32)
    textures = []
    for level in (0, 50, 100, 150, 200, 250):
        core = Restorer(
            model,
            RestoreOptions(noise_level=level),
            device=cpu,
            dtype=torch.float32,
            estimator=DisFlow(),
        )
        shown, _ = core(clip, [0, 1], num_anchors=0, num_lookahead=0, state=None)
        textures.append(texture_deficit(torch.zeros_like(shown), shown).item())
    assert min(textures[1:]) > 1.2 * textures[0]
