"""FRESCO's fixtures of guided attention, features and DDPM; run by `parity.py`."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from diffusers.models.attention_processor import Attention
from einops import rearrange
from torch import Tensor, nn

from legato.diffusion.feature_losses import unit
from legato.diffusion.feature_optimisation import (
    RELEASED_FEATURES,
    moved_features,
    optimise_features,
)
from legato.diffusion.prediction import x0_from
from legato.diffusion.schedule import Schedule
from legato.diffusion.solver import Ddpm, Move
from legato.flow.correspondence import CyclicMotion
from legato.models.attention_sites import SelfAttentionSite
from legato.models.frame_attention import ClipState, install
from legato.models.guided_attention import GuidedAttention
from legato.models.reference import Reference
from legato.models.token_correspondence import TokenCorrespondence

Fixture = dict[str, Tensor]
Outputs = dict[str, Tensor]
SITE = SelfAttentionSite(path="attn1", part="up", stride=8)


def attention_outputs(fixture: Fixture) -> Iterator[tuple[str, Tensor]]:
    """Every combination of the guided parts, on one attention module."""
    width = fixture["hidden"].shape[-1]
    module = nn.Module()
    module.attn1 = Attention(query_dim=width, heads=2, dim_head=width // 2)
    weights = {k.removeprefix("weight."): v for k, v in fixture.items() if k.startswith("weight.")}
    module.attn1.load_state_dict(weights)
    token = TokenCorrespondence(
        unique=fixture["unique_mask"],
        forward=fixture["perm"],
        inverse=fixture["perm_inv"],
        link=fixture["link_mask"],
    )
    known = {fixture["hidden"].shape[1]: token}
    guided = GuidedAttention()
    reference = Reference(hidden={SITE.path: fixture["reference"]})
    state = ClipState(num_frames=len(fixture["unique_mask"]), reference=reference)
    install(module, [SITE], guided, state)
    for name, parts in {
        "plain": (),
        "cross_only": ("cross",),
        "cross_spatial": ("cross", "spatial"),
        "cross_temporal": ("cross", "temporal"),
        "all": ("cross", "spatial", "temporal"),
        "spatial_only": ("spatial",),
        "temporal_only": ("temporal",),
        "spatial_temporal": ("spatial", "temporal"),
        "cross_only_no_matching_mask": ("cross",),
        "text_attention_all": ("cross", "spatial", "temporal"),
    }.items():
        guided.parts = parts
        state.correspondences = {} if "no_matching" in name else known
        text = fixture["context"] if "text" in name else None
        yield f"out.{name}", module.attn1(fixture["hidden"], encoder_hidden_states=text)


def feature_outputs(fixture: Fixture) -> Iterator[tuple[str, Tensor]]:
    """Features after some steps, before and after they get their statistics back."""
    flow = CyclicMotion(
        flow_forward=fixture["flow_fwd"],
        flow_backward=fixture["flow_bwd"],
        occluded_forward=fixture["occ_fwd"].bool(),
        occluded_backward=fixture["occ_bwd"].bool(),
    )
    features, target = (
        rearrange(fixture[name], "(b t) c h w -> b t c h w", b=2)
        for name in ("feature", "reference_feature")
    )
    similar = unit(fixture["reference_feature"])
    yield "gram_target", similar @ similar.mT
    for name in fixture:
        if not name.endswith(".before_adain"):
            continue
        case = name.removesuffix(".before_adain")
        terms, steps = case.split("_")
        arguments = {
            "flow": None if terms == "spatial" else flow,
            "target": None if terms == "temporal" else target,
            "options": replace(RELEASED_FEATURES, num_iterations=int(steps)),
        }
        yield name, moved_features(features, **arguments).flatten(0, 1)
        yield f"{case}.after_adain", optimise_features(features, **arguments).flatten(0, 1)


def ddpm_outputs(fixture: Fixture) -> Iterator[tuple[str, Tensor]]:
    """The schedule, and single steps of DDPM with unclipped estimates."""
    schedule = Schedule(beta_start=0.00085, beta_end=0.012, prediction_type="epsilon")
    timesteps = schedule.timesteps(len(fixture["timesteps"]))
    yield "timesteps", torch.tensor(timesteps)
    yield "alphas_cumprod", schedule.alphas_cumprod
    z, eps = fixture["step.latents"], fixture["step.noise_prediction"]
    for name in fixture:
        if not (name.startswith("step_") and name.endswith(".previous")):
            continue
        case = name.removesuffix(".previous")
        timestep = int(case.split("_")[1])
        following = [*timesteps, None][timesteps.index(timestep) + 1]
        noise = fixture["step.noise"]
        noise = noise[:1].expand_as(noise) if "shared" in case else noise
        move = Move(
            index=0,
            scales=schedule.scales(timestep),
            following=schedule.scales(following),
            is_last=following is None,
        )
        x0 = x0_from(eps, z, scales=move.scales, prediction_type="epsilon")
        if "smoothed" in case:
            x0 = fixture[f"{case}.x0"]  # the edit itself is tested with the flow
        else:
            yield f"{case}.x0", x0
        yield name, Ddpm(lambda index, noise=noise: noise)(x0, eps, z, move)


RUNNERS: dict[str, Callable[[Fixture], Outputs]] = {
    "attention": lambda fixture: dict(attention_outputs(fixture)),
    "feature_optimisation": lambda fixture: dict(feature_outputs(fixture)),
    "background_ddpm": lambda fixture: dict(ddpm_outputs(fixture)),
}
"""Beginning of a fixture's name -> what computes its outputs."""
