"""A tiny real depth-estimation model of transformers: the real class, random weights."""

from pathlib import Path

import torch
from tiny import randomise_
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor


def tiny_depth(target: Path, **changes) -> Path:
    """A folder of a DPT; what it sees depends on the picture."""
    values = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 8, 8],
        "fusion_hidden_size": 8,
        "use_auxiliary_head": False,
    }
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = DPTForDepthEstimation(DPTConfig(**(values | changes)))
    randomise_(model, seed=1, scale=0.3).save_pretrained(target)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(target)
    return target
