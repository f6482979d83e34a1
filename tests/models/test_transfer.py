"""Which temporal layers attach to which image checkpoint, told from headers alone."""

import json
from dataclasses import replace

import pytest
import torch
from tiny import TEXT_WIDTH, tiny_unet, tiny_video_unet

from legato.apps import cli
from legato.models.folder import FolderWriter, ModelFolder
from legato.models.manifest import GeneratorDefaults, Manifest
from legato.models.parts import load_unet
from legato.models.save import write_temporal, write_unet

LAYERS = Manifest(
    name="layers",
    family="video_ldm",
    licence="Apache-2.0",
    job="generate",
    defaults=GeneratorDefaults(),
)


def write(target, model, *, alone=False, **changes):
    with FolderWriter(target) as writer:
        (write_temporal if alone else write_unet)(writer, model, torch.float32)
        writer.finish(replace(LAYERS, **changes))
    return target


@pytest.fixture
def folders(tmp_path):
    """Temporal layers alone, a whole model, and image checkpoints of three topologies."""
    tiny_unet(seed=5).save_pretrained(tmp_path / "dreambooth/unet")
    tiny_unet(block_out_channels=(32, 96)).save_pretrained(tmp_path / "wide/unet")
    tiny_unet(cross_attention_dim=24).save_pretrained(tmp_path / "text/unet")
    write(tmp_path / "layers", tiny_video_unet(), alone=True)
    write(tmp_path / "whole", tiny_video_unet("animatediff", num_heads=4))
    return tmp_path


def match(capsys, folders, *names):
    code = cli.main(["models", "match", *(str(folders / name) for name in names), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    return {
        tuple(entry[key].rpartition("/")[2] for key in ("layers", "image")): entry["reason"]
        for entry in found
    }


def test_layers_fit_a_finetuned_model_and_refuse_another_with_the_reason(capsys, folders):
    found = match(capsys, folders, "layers", "whole", "dreambooth", "wide", "text")
    assert set(found) == {
        (layers, image)
        for layers in ("layers", "whole")
        for image in ("whole", "dreambooth", "wide", "text")
    }
    for layers in ("layers", "whole"):
        assert found[layers, "whole"] is None
        assert found[layers, "dreambooth"] is None
        assert "down_blocks.1" in found[layers, "wide"]
        assert f"text width [{TEXT_WIDTH}], the model has [24]" in found[layers, "text"]


def test_what_matches_attaches_and_keeps_the_image_model(folders):
    layers, image = (ModelFolder(folders / name) for name in ("layers", "dreambooth"))
    model, plain = load_unet(layers, image=image), load_unet(image)
    expected = tiny_video_unet().temporal_state()
    assert all(torch.equal(value, expected[key]) for key, value in model.temporal_state().items())
    theirs = plain.spatial.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in model.spatial.state_dict().items())


def test_another_prediction_is_a_note(capsys, folders):
    scheduler = folders / "dreambooth/scheduler/scheduler_config.json"
    scheduler.parent.mkdir()
    scheduler.write_text(json.dumps({"prediction_type": "epsilon"}))
    paths = [str(folders / name) for name in ("layers", "dreambooth")]
    assert cli.main(["models", "match", *paths]) == 0
    said = capsys.readouterr().out
    assert "fit\n    they were trained to predict v_prediction, the image model epsilon" in said


def test_without_anything_to_match_it_says_so(capsys, folders):
    assert cli.main(["models", "match", str(folders / "dreambooth")]) == 0
    assert "no temporal layers" in capsys.readouterr().out
    assert cli.main(["models", "match", str(folders / "nowhere")]) == 3


def test_the_installed_models_are_the_default(capsys):
    assert cli.main(["models", "match"]) == 0
    assert "embedded_x4 -> " in capsys.readouterr().out
