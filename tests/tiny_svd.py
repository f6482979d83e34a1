"""Stable Video Diffusion with tiny networks, as its authors lay it out."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from tiny import randomise_
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

WIDTH = 16
FRAMES = 3
SIDE, SEEN = 32, 224
"""Of pictures, and of what the vision network sees of them: that number is fixed in diffusers."""


def tiny_unet() -> UNetSpatioTemporalConditionModel:
    """Return the U-Net, with temporal layers and mixing weights that act."""
    model = UNetSpatioTemporalConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        num_attention_heads=(2, 4),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        num_frames=FRAMES,
    )
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.GroupNorm) and ".resnets." in name:
            module.eps = 1e-5  # as in the original release; diffusers has 1e-6 in some blocks
    return randomise_(model, scale=0.02).eval()


def tiny_pipeline() -> StableVideoDiffusionPipeline:
    """Return the whole pipeline; twice as wide and high as the latents."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 64),
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            layers_per_block=2,  # others have a middle that no image autoencoder has
            latent_channels=4,
            sample_size=SIDE,
        )
        encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=WIDTH,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=SEEN,
                patch_size=SEEN // 4,
                projection_dim=WIDTH,
            )
        )
        return StableVideoDiffusionPipeline(
            vae=randomise_(vae, scale=0.05).eval(),
            image_encoder=encoder.eval(),
            unet=tiny_unet(),
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                prediction_type="v_prediction",
                interpolation_type="linear",
                use_karras_sigmas=True,
                sigma_min=0.002,
                sigma_max=700.0,
                timestep_spacing="leading",
                timestep_type="continuous",
                steps_offset=1,
            ),
            feature_extractor=CLIPImageProcessorPil(
                size={"shortest_edge": SEEN}, crop_size={"height": SEEN, "width": SEEN}
            ),
        )


def tiny_svd_folder(target: Path) -> Path:
    """Write the pipeline's folder; return it."""
    tiny_pipeline().save_pretrained(target)
    return target
