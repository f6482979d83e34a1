"""`--raft`: another flow is really followed, its file belongs to the job, and what cannot be is one
line before any work. A stand-in for torchvision's network says that all moves by its one weight."""

import numpy as np
import pytest
import torch
from clips import pixels_of
from safetensors.torch import save_file
from tiny_image_model import tiny_words_image_model

from legato.errors import InputError, Interrupted, LegatoError, ModelError, ResourceError
from legato.flow import raft
from legato.pipelines import limits
from legato.pipelines.forecast import plan
from legato.pipelines.keyframes import KeyframeOptions
from legato.pipelines.restorers import Restorers
from legato.pipelines.run_options import RunOptions
from legato.pipelines.saved_plan import Execution
from legato.pipelines.translate import translate
from legato.pipelines.translate_options import TranslateOptions
from legato.pipelines.upscale import upscale
from legato.video.codecs import CodecOptions

RUN = RunOptions(dtype="float32", device="cpu")


class Shift(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, first, second, num_flow_updates):
        assert first.shape == second.shape
        return [self.weight.view(1, 2, 1, 1).expand(first.shape[0], -1, *first.shape[-2:])]


def weights(path, *shift):
    save_file({"weight": torch.tensor(shift)}, path)
    return path


@pytest.fixture(autouse=True)
def _torchvision(monkeypatch):
    monkeypatch.setattr(raft, "_network", Shift)
    monkeypatch.setattr(limits, "find_spec", lambda name: name)


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    return str(tiny_words_image_model(tmp_path_factory.mktemp("image") / "words"))


@pytest.fixture(params=["upscale", "translate"])
def make(request, options, image_model, tmp_path):
    """Do either job, along a flow."""

    def run(source, name="out.mkv", *, stop=lambda: False, consistency=None, raft=None):
        if request.param == "upscale":
            chosen = options(consistency=consistency or "propagation", raft=raft)
            return upscale(source, tmp_path / name, chosen, run=RUN, stop=stop)
        chosen = TranslateOptions(
            model=image_model,
            prompt="night",
            num_inference_steps=2,
            guidance_scale=1.0,
            consistency=consistency or "none",
            keyframes=KeyframeOptions(min_interval=2, max_interval=3),
            batch_size=3,
            output=CodecOptions(codec="ffv1"),
            segment=3,
            raft=raft,
        )
        return translate(source, tmp_path / name, chosen, run=RUN, stop=stop)

    return run


def test_its_flow_is_followed_instead_of_another(make, clip, tmp_path):
    source = clip(frames=6, sound=False)
    pictures = []
    for name, shift in (("dis", None), ("still", (0.0, 0.0)), ("moving", (4.0, -3.0))):
        chosen = shift and weights(tmp_path / f"{name}.safetensors", *shift)
        report = make(source, f"{name}.mkv", raft=chosen)
        assert report.options["raft"] == (chosen and str(chosen))
        pictures.append(pixels_of(tmp_path / f"{name}.mkv"))
    dis, still, moving = pictures
    assert not np.array_equal(dis, moving)
    assert not np.array_equal(still, moving)


def test_other_weights_under_the_same_name_are_another_job(make, clip, tmp_path):
    source, chosen = clip(sound=False), weights(tmp_path / "raft.safetensors", 0.0, 0.0)
    stops = iter([False])
    with pytest.raises(Interrupted):
        make(source, raft=chosen, stop=lambda: next(stops, True))
    weights(chosen, 1.0, 0.0)
    with pytest.raises(InputError, match="what --raft names has changed"):
        make(source, raft=chosen)


@pytest.mark.parametrize(
    ("lack", "kind", "said"),
    [
        ("file", InputError, "raft=.*no such file"),
        ("torchvision", ResourceError, "raft=.*torchvision, which is not installed"),
        ("weights", ModelError, "cannot be read as safetensors"),
        ("shape", ModelError, "RAFT weights .*of another shape"),
    ],
)
def test_what_is_missing_is_one_line_before_any_work(
    make, clip, tmp_path, monkeypatch, lack, kind, said
):
    source, chosen = clip(frames=2), tmp_path / "raft.safetensors"
    if lack == "torchvision":
        monkeypatch.setattr(limits, "find_spec", lambda name: None)
    if lack != "file":
        weights(chosen, *(0.0,) * (3 if lack == "shape" else 2))
    if lack == "weights":
        chosen.write_bytes(b"nothing")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(kind, match=said) as refused:
        make(source, raft=chosen)
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before


def test_the_output_does_not_replace_it(make, clip, tmp_path):
    source, chosen = clip(frames=2), weights(tmp_path / "out.mkv", 0.0, 0.0)
    with pytest.raises(InputError):
        make(source, raft=chosen)


@pytest.mark.parametrize("consistency", ["none", "temporal", "fusion", "all-frames"])
def test_where_nothing_follows_it_while_upscaling_it_is_refused(
    clip, options, tmp_path, consistency
):
    chosen = options(consistency=consistency, raft=weights(tmp_path / "raft.safetensors", 0.0, 0.0))
    with pytest.raises(LegatoError, match="nothing here follows"):
        upscale(clip(frames=2), tmp_path / "out.mkv", chosen, run=RUN)


def test_a_plan_counts_its_memory_and_its_weights_are_read_once(
    clip, options, tmp_path, monkeypatch
):
    source, chosen = clip(frames=4), weights(tmp_path / "raft.safetensors", 0.0, 0.0)
    asked = options(consistency="propagation")
    without = plan(source, None, asked, run=RUN).memory_bytes
    monkeypatch.setattr("legato.pipelines.restorers.bytes_of_pair", lambda rows, cols: 10**9)
    asked = options(consistency="propagation", raft=chosen)
    assert plan(source, None, asked, run=RUN).memory_bytes > without + 5 * 10**8
    restorers = Restorers.of(asked, RUN)
    how = Execution(tile=None, window=2, segment=4, dtype="float32")
    assert restorers(how)._estimator is restorers(how)._estimator
