"""DISTS with weights at random: its formula, and what it takes for its weights."""

import pytest
import torch
from safetensors.torch import save_file

from legato.errors import ModelError
from legato.evaluation.dists import DISTS


@pytest.fixture(scope="module")
def dists():
    torch.manual_seed(0)
    return DISTS()


def texture(seed, size=64):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_identical_pictures_have_distance_zero_and_order_does_not_matter(dists):
    a, b = texture(0), texture(1)
    assert dists(a, a).item() == pytest.approx(0, abs=1e-6)
    assert dists(a, b).item() == pytest.approx(dists(b, a).item(), abs=1e-6)
    assert 0 < dists(a, b).item() < 1


def test_pictures_alone_follow_the_formula(dists):
    """With alpha and beta on the three channels of the picture, against the equations in numpy."""
    alone = DISTS()
    for weight in (alone.alpha, alone.beta):
        weight.data[:, 3:] = 0
    a, b = texture(0), texture(1)
    x, y = (((p[0] + 1) / 2).flatten(1).double().numpy() for p in (a, b))
    wanted = 0
    for u, v in zip(x, y, strict=True):
        covariance = ((u - u.mean()) * (v - v.mean())).mean()
        wanted += (2 * u.mean() * v.mean() + 1e-6) / (u.mean() ** 2 + v.mean() ** 2 + 1e-6)
        wanted += (2 * covariance + 1e-6) / (u.var() + v.var() + 1e-6)
    assert alone(a, b).item() == pytest.approx(1 - wanted / 6, abs=1e-5)


def test_pooling_keeps_what_is_constant(dists):
    pool = dists.features[4]
    inner = pool(torch.full((1, 64, 8, 8), 0.7))[..., 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.7))


def test_names_of_the_package_are_understood(dists, tmp_path):
    state = {
        name.replace("features.", "stage1.", 1): value for name, value in dists.state_dict().items()
    }
    torch.save(state | {"mean": dists.mean, "stage2.4.filter": torch.ones(1)}, tmp_path / "d.pth")
    a, b = texture(0), texture(1)
    assert DISTS.from_file(tmp_path / "d.pth")(a, b).item() == dists(a, b).item()


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="DISTS weights"):
        DISTS.from_file(tmp_path / "w.safetensors")
