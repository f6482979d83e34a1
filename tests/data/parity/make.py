"""Made the goldens beside it, once, when `benchmarks/parity.py` agreed with the reference.

    python tests/data/parity/make.py KEYS_SMALL_JSON

The networks are the reference's small ones; inputs and outputs are our own.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "benchmarks"))
import parity  # noqa: E402


def main() -> None:
    """Write keys and fixtures."""
    keys = json.loads(Path(sys.argv[1]).read_text())
    kept = {name: keys[name] for name in ("unet_small", "vae_video_small")}
    text = json.dumps(kept, separators=(",", ":")).replace('],"', '],\n"')
    (HERE / "keys_small.json").write_text(text + "\n")
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    unet = {
        "sample": draw(1, 4, 3, 8, 9),
        "low_res": draw(1, 3, 3, 8, 9),
        "encoder_hidden_states": draw(1, 5, 48),
        "timestep": torch.tensor([500]),
        "class_labels": torch.tensor([150]),
    }
    vae = {"z": draw(1, 4, 2, 5, 4), "low_res": draw(1, 3, 2, 5, 4)}
    networks = parity.Networks(HERE)
    with torch.no_grad():
        out = parity.run_unet(unet, networks)
        save_file(
            unet | {k: v.contiguous() for k, v in out.items()}, HERE / "unet_small.safetensors"
        )
        out = parity.run_vae_video(vae, networks)
        save_file(
            vae | {k: v.contiguous() for k, v in out.items()}, HERE / "vae_video_small.safetensors"
        )


if __name__ == "__main__":
    main()
