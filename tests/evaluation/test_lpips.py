import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from legato.errors import ModelError
from legato.evaluation.lpips import SqueezeLPIPS, load_lpips


@pytest.fixture(scope="module")
def lpips(shared):
    return SqueezeLPIPS.from_file(shared / "weights" / "lpips_squeeze.safetensors")


def picture(seed=0, size=64):
    coarse = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(size, size), mode="bicubic").clamp(-1, 1)


def test_identical_pictures_have_distance_zero(lpips):
    x = picture()
    assert lpips(x, x).item() == 0


def test_distance_is_symmetric_and_per_pair(lpips):
    a, b = picture(0), picture(1)
    both = lpips(torch.cat([a, b]), torch.cat([b, a]))
    assert both.shape == (2,)
    assert both[0].item() == pytest.approx(both[1].item(), rel=1e-5)


def test_more_noise_is_further_away(lpips):
    x, noise = picture(), torch.randn(1, 3, 64, 64)
    distances = [lpips(x, x + level * noise).item() for level in (0.01, 0.05, 0.2, 0.8)]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_gradient_is_finite_where_features_vanish(lpips):
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    lpips(x, picture()).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_weights_take_no_gradient(lpips):
    assert not any(p.requires_grad for p in lpips.parameters())


def test_seven_layers_of_the_published_widths():
    state = SqueezeLPIPS().state_dict()
    assert [state[f"lin{k}.weight"].shape[1] for k in range(7)] == [
        64,
        128,
        256,
        384,
        384,
        512,
        512,
    ]
    assert sum(v.numel() for k, v in state.items() if k.startswith("features")) == 722496


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="LPIPS weights"):
        SqueezeLPIPS.from_file(tmp_path / "w.safetensors")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="LPIPS weights"):
        load_lpips(tmp_path / "none.safetensors")
