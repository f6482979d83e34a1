"""Tem-Con and Fram-Acc through a tiny real CLIP."""

import json

import numpy as np
import pytest
import torch
from judged import truth_clip, write_images, write_roots
from tiny import randomise_
from tiny_captioner import LAYERS, tiny_words
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from legato.errors import InputError, ModelError
from legato.evaluation.clip_figures import ContentFigures
from legato.evaluation.evaluate import evaluate
from legato.evaluation.evaluate_options import EvaluateOptions
from legato.models.clip_similarity import ClipSimilarity


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("clip")
    tiny_words(["a", "day", "night"]).save_pretrained(target)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16).save_pretrained(target)
    text = {"vocab_size": 7, "max_position_embeddings": 8, "eos_token_id": 3, "bos_token_id": 2}
    config = CLIPConfig(
        text_config=text | LAYERS,
        vision_config={"image_size": 16, "patch_size": 8} | LAYERS,
        projection_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = CLIPModel(config)
    randomise_(model, seed=0, scale=0.3).save_pretrained(target)
    return str(target)


@pytest.fixture(scope="module")
def similarity(folder):
    return ClipSimilarity(folder, torch.device("cpu"))


def test_embeddings_are_of_unit_length(similarity):
    picture, words = similarity.picture(truth_clip()[0]), similarity.words("a day")
    assert picture.shape == words.shape == (8,)
    torch.testing.assert_close(picture.norm(), torch.tensor(1.0))
    torch.testing.assert_close(words.norm(), torch.tensor(1.0))


def test_a_still_clip_has_a_tem_con_of_one(similarity):
    figures = ContentFigures(similarity=similarity)
    for _ in range(3):
        figures.add(truth_clip()[0])
    assert figures.series == {"tem_con": [pytest.approx(1.0), pytest.approx(1.0)]}


def test_tem_con_is_the_cosine_of_neighbours(similarity):
    a, b = truth_clip()[0], 255 - truth_clip(seed=1)[0]
    figures = ContentFigures(similarity=similarity)
    figures.add(a)
    figures.add(b)
    expected = float(similarity.picture(a) @ similarity.picture(b))
    assert figures.series["tem_con"] == [pytest.approx(expected)]
    assert expected < 0.999


def test_spat_con_is_the_distance_of_self_similarities(similarity):
    result, truth = 255 - truth_clip(seed=1)[0], truth_clip()[0]
    figures = ContentFigures(similarity=similarity)
    figures.add(truth, truth)
    figures.add(result, truth)
    own, other = (similarity.self_similarity(each) for each in (result, truth))
    assert own.shape == (5, 5)  # 2 x 2 patches and the class token
    torch.testing.assert_close(own.diagonal(), torch.ones(5))
    expected = float((own - other).abs().sum() / 25)
    assert figures.series["spat_con"] == [0, pytest.approx(expected)]
    assert expected > 1e-3


def test_fram_acc_counts_frames_nearer_to_the_target(similarity):
    frames = [truth_clip()[0], np.zeros((64, 96, 3), np.uint8), 255 - truth_clip()[0]]
    there, back = (
        ContentFigures(similarity=similarity, prompts=prompts)
        for prompts in (("a day", "night"), ("night", "a day"))
    )
    for frame in frames:
        there.add(frame)
        back.add(frame)
    found = list(zip(there.series["fram_acc"], back.series["fram_acc"], strict=True))
    assert len(found) == len(frames)
    assert set(found) <= {(0, 1), (1, 0)}


def test_the_tables_have_them(folder, tmp_path):
    options = EvaluateOptions(clip=folder, prompt="night", source_prompt="a day")
    found = evaluate(*write_roots(tmp_path, num_clips=1), tmp_path / "out", options)
    assert {"tem_con", "fram_acc", "spat_con", "psnr"} <= set(found.figures)
    alone = evaluate(tmp_path / "results", None, tmp_path / "alone", options)
    assert {"tem_con", "fram_acc"} <= set(alone.figures)
    data = json.loads((tmp_path / "alone" / "evaluation.json").read_text())
    assert data["means"]["tem_con"] == alone.means["tem_con"]


def test_clipsim_is_the_mean_cosine_of_frames_and_prompt(similarity):
    frames = truth_clip()
    figures = ContentFigures(similarity=similarity, prompts=("", "night"))
    for frame in frames:
        figures.add(frame)
    expected = [float(similarity.picture(f) @ similarity.words("night")) for f in frames]
    assert figures.series["clipsim"] == pytest.approx(expected)
    assert "fram_acc" not in figures.series


def test_a_prompt_alone_gives_clipsim(folder, tmp_path):
    write_images(tmp_path / "r", truth_clip())
    options = EvaluateOptions(clip=folder, prompt="night")
    found = evaluate(tmp_path / "r", None, tmp_path / "out", options)
    assert {"clipsim", "tem_con"} < set(found.figures)
    assert "fram_acc" not in found.figures


def test_clips_are_held_to_captions_of_their_own(folder, tmp_path, similarity):
    results = tmp_path / "r"
    for name, caption in (("a", "night\n"), ("b", "a day"), ("c", None)):
        write_images(results / name, truth_clip())
        if caption is not None:
            (results / f"{name}.txt").write_text(caption)
    found = evaluate(results, None, tmp_path / "out", EvaluateOptions(clip=folder))
    of_clip = {clip.name: clip.means.get("clipsim") for clip in found.clips}
    for name, text in (("a", "night"), ("b", "a day")):
        alone = ContentFigures(similarity=similarity, prompts=("", text))
        for frame in truth_clip():
            alone.add(frame)
        assert of_clip[name] == pytest.approx(np.mean(alone.series["clipsim"]))
    assert of_clip["c"] is None
    assert "c has no CLIPSIM: c.txt is not beside it" in found.notices
    options = EvaluateOptions(clip=folder, prompt="night", shown=0)
    told = evaluate(results, None, tmp_path / "one", options).clips[1]
    assert told.means["clipsim"] == pytest.approx(of_clip["a"])  # the same pictures


def test_without_prompts_there_is_no_fram_acc(folder, tmp_path):
    write_images(tmp_path / "r", truth_clip())
    found = evaluate(tmp_path / "r", None, tmp_path / "out", EvaluateOptions(clip=folder))
    assert "tem_con" in found.figures
    assert "fram_acc" not in found.figures


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "night"},
        {"source_prompt": "a", "clip": "x"},
        {"prompt": "a", "source_prompt": "b"},
    ],
)
def test_prompts_need_each_other_and_a_model(wrong):
    with pytest.raises(InputError, match="prompt="):
        EvaluateOptions(**wrong)


def test_a_missing_model_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        ClipSimilarity(str(tmp_path), torch.device("cpu"))
