import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from legato.errors import ModelError
from legato.evaluation.feature_networks import ARCHITECTURES
from legato.evaluation.lpips import LPIPS, load_lpips


@pytest.fixture(scope="module")
def lpips(shared):
    return LPIPS.from_file(shared / "weights" / "lpips_squeeze.safetensors")


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
    state = LPIPS().state_dict()
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
        LPIPS.from_file(tmp_path / "w.safetensors")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="LPIPS weights"):
        load_lpips(tmp_path / "none.safetensors")


def saved_like_the_package(model, path):
    """Save weights under the names that the package lpips gives."""
    state = {}
    for name, value in model.state_dict().items():
        kind, rest = name.split(".", 1)
        if kind == "features":
            state[f"net.slice1.{rest}"] = value
        else:
            state[f"{kind}.model.1.weight"] = value
            state[f"lins.{kind[3:]}.model.1.weight"] = value
    torch.save(state | {"scaling_layer.shift": torch.zeros(1)}, path)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.title)
def test_the_network_is_recognised_by_its_weights_under_either_name(architecture, tmp_path):
    torch.manual_seed(0)
    model = LPIPS(architecture)
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    saved_like_the_package(model, tmp_path / "package.pth")
    a, b = picture(0), picture(1)
    for name in ("own.safetensors", "package.pth"):
        found = LPIPS.from_file(tmp_path / name)
        assert found.architecture.title == architecture.title
        assert found(a, b).item() == model(a, b).item() != 0


def test_published_sizes():
    counts = {a.title: sum(p.numel() for p in a.build().parameters()) for a in ARCHITECTURES}
    assert counts == {"SqueezeNet": 722_496, "AlexNet": 2_469_696, "VGG-16": 14_714_688}


def test_a_file_with_code_is_refused(tmp_path):
    torch.save({"x": print}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="weights alone"):
        LPIPS.from_file(tmp_path / "w.pth")
