"""A network whose frames FRESCO guides: what `denoise` calls in place of the model itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from legato.diffusion.denoiser import Network
from legato.diffusion.fresco import ClipCorrespondence, Fresco
from legato.models.micro_conditioning import ClipConditions
from legato.models.reference import Reference


@dataclass(frozen=True, kw_only=True)
class GuidedNetwork:
    """A `Network` for one clip that is denoised in one window and untiled.

    The reference pass runs at the first call with each text that needs it, so prompt and negative
    prompt have their own. Use it inside `fresco.attached()`.
    """

    network: Network
    """The video network around `fresco.unet`."""

    fresco: Fresco
    clip: ClipCorrespondence
    """What belongs together among the clip's frames."""

    reference: Float[Tensor, "B T C h w"]
    """What the network sees in the reference pass: `reference_latents`, with what is concatenated
    to latents; one batch for all texts, or one per text."""

    timesteps: Sequence[int]
    """Those of the loop, falling."""

    num_steps: int
    """Of the whole schedule; more than there are timesteps where a run starts part-way."""

    reference_network: Network | None = None
    """What the reference pass calls where that is another one: without a ControlNet."""

    _known: list[tuple[Tensor, Reference]] = field(default_factory=list, repr=False)

    def __call__(
        self,
        sample: Float[Tensor, "B T C h w"],
        timestep: Int[Tensor, " B"],
        encoder_hidden_states: Float[Tensor, "B N D"],
        class_labels: Int[Tensor, " B"] | None,
        *,
        conditions: ClipConditions | None = None,
    ) -> Float[Tensor, "B T c h w"]:
        """Return the guided prediction."""
        index = self.timesteps.index(int(timestep[0]))
        plan, executed = self.fresco.options.plan, len(self.timesteps)
        parts = plan.at(index, num_executed=executed, num_steps=self.num_steps)
        reference = None
        if self.fresco.reads_reference(parts):
            reference = self._reference(sample.dtype, encoder_hidden_states, class_labels)
        self.fresco.on(self.clip, reference, parts, step=index)
        return self.network(
            sample, timestep, encoder_hidden_states, class_labels, conditions=conditions
        )

    def forget(self) -> None:
        """Let go of what the reference pass found; the next call that needs it looks again."""
        self._known.clear()

    def _reference(
        self, dtype: torch.dtype, text: Float[Tensor, "B N D"], labels: Int[Tensor, " B"] | None
    ) -> Reference:
        for known, reference in self._known:
            if torch.equal(known, text):
                return reference
        last = torch.full((len(text),), self.timesteps[-1], device=text.device)
        seen = self.reference.to(dtype).expand(len(text), -1, -1, -1, -1)
        network = self.reference_network or self.network
        reference = self.fresco.look(lambda: network(seen, last, text, labels))
        self._known.append((text.clone(), reference))
        return reference
