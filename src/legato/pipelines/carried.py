"""What a segment leaves behind for the next one of the same shot."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from legato.errors import InputError
from legato.tensor_file import save_tensors

FORMAT = "legato-carried/1"


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Exact tensors that make the next segment continue as if there had been no cut.

    Attributes:
        position: index in the shot of the next frame to emit.
        tensors: on the CPU, by name. `latents`: the last clean latents, for the decoder;
            `step/I`: latents after step I of the last emitted frames (anchors), where later steps
            need them; `seed/I`: propagated x_0 of the last emitted frame at step I;
            `kept/START/STOP/BRANCH`: first-step predictions of windows that reach past `position`,
            in the shot's indices.
    """

    position: int
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the state as safetensors, whole or not at all, bit for bit."""
        exact = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        save_tensors(exact, path, {"format": FORMAT, "position": str(self.position)})

    @classmethod
    def load(cls, path: Path) -> "Carried":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged or something else.
        """
        try:
            with safe_open(path, "pt") as stored:
                facts = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"state {path}",
                why=f"it cannot be read ({error})",
                fix="start again with --restart",
            ) from error
        if facts.get("format") != FORMAT:
            raise InputError(
                f"state {path}", why="it is of another kind", fix="start again with --restart"
            )
        return cls(position=int(facts["position"]), tensors=tensors)

    def without(self, prefix: str) -> "Carried":
        """Return the rest, which does not hold the tensors whose names start with `prefix/`."""
        rest = {k: v for k, v in self.tensors.items() if not k.startswith(f"{prefix}/")}
        return replace(self, tensors=rest)

    def within(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with `prefix/`, by the rest of their names."""
        return {
            name.removeprefix(f"{prefix}/"): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(f"{prefix}/")
        }
