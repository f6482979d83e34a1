"""A U-Net before and after its blocks are compiled, as JSON; without the tests' checks of types.

These cannot be traced, so this is a process of its own: FAMILY BACKEND. The compiler itself
(inductor) takes long, and is shown one size only.
"""

import json
import sys

import torch
from tiny import TEXT_WIDTH, tiny_unet
from torch._dynamo.utils import counters

from legato.models import compiled
from legato.models.inflate import VideoModel, inflate
from legato.models.offload import let_go_
from legato.models.parts import fill_part_, ready_

CPU = torch.device("cpu")
ONE_LEVEL = {
    "block_out_channels": (16,),
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
}


def video_unet(family: str) -> VideoModel:
    unet = inflate(tiny_unet(**ONE_LEVEL), family)
    generator = torch.Generator().manual_seed(0)
    for parameter in unet.temporal.parameters():
        parameter.data.normal_(std=0.05, generator=generator)
    return ready_(unet, CPU, torch.float32)


@torch.no_grad()
def predicted(unet: VideoModel, *, frames: int = 3, rows: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(1, frames, 7, rows, 8, generator=generator)
    text = torch.randn(1, 5, TEXT_WIDTH, generator=generator)
    return unet(sample, 501, text, torch.tensor([20]))


def main(family: str, backend: str) -> dict[str, float]:
    def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
        return float((found - wanted).abs().max() / wanted.abs().max())

    compiled.APART["backend"] = backend
    unet = video_unet(family)
    before, others = predicted(unet), predicted(unet, frames=2, rows=16)
    with unet.disabled():
        image = predicted(unet)
    state = {key: value.clone() for key, value in unet.spatial.state_dict().items()}
    compiled.compile_blocks_(unet)
    with torch.compiler.set_stance("force_eager"):
        told = {"uncompiled": apart(predicted(unet), before)}
    told["graphs while uncompiled"] = counters["stats"]["unique_graphs"]
    told["same"] = apart(predicted(unet), before)
    told["graphs"], told["breaks"] = (
        counters["stats"]["unique_graphs"],
        len(counters["graph_break"]),
    )
    if backend == "inductor":
        return told
    told["other size"] = apart(predicted(unet, frames=2, rows=16), others)
    with unet.disabled():
        told["layers off"] = apart(predicted(unet), image)
    told["layers"] = apart(before, image)
    let_go_(unet.spatial)
    fill_part_(unet.spatial, state, "unet")
    ready_(unet, CPU, torch.float32)
    told["weights read again"] = apart(predicted(unet), before)
    return told


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
