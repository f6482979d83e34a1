"""Which parts of FRESCO act at which steps, as fractions of the schedule."""

from dataclasses import dataclass

from legato.models.guided_attention import GuidedPart

ROUNDING = 1e-9
"""Of fractions: 0.65 of 20 steps ends before step 13."""


@dataclass(frozen=True, kw_only=True)
class StepParts:
    """What acts at one step."""

    attention: frozenset[GuidedPart]
    features: bool
    """Whether features are optimised."""
    smoothing: bool
    """Whether the background of the clean estimate is smoothed."""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """Fractions of the whole schedule, 0 its beginning (most noise) and 1 its end.

    Step i of N stands at i / N. A run that starts part-way keeps the places of its steps, so that
    20 steps act as in FRESCO's released code: spatial guidance at the first step, temporal down to
    timestep 350, optimisation at the first 15, smoothing at steps 16 and 17.
    """

    spatial: float = 0.05
    """Share of the steps, counted from the first executed one; at least one step unless 0."""

    cross: float = 1.0
    """Until where frames read from each other's tokens."""

    temporal: float = 0.65
    """Until where what was read is mixed along trajectories."""

    features: float = 0.75
    """Until where features are optimised."""

    smoothing: tuple[float, float] = (0.8, 0.9)
    """From where until where the background is smoothed."""

    def at(self, index: int, *, num_executed: int, num_steps: int) -> StepParts:
        """Return what acts at a step.

        Args:
            index: of the executed step, from 0.
            num_executed: steps that are executed: the last ones of the schedule.
            num_steps: steps of the whole schedule.
        """
        place = num_steps - num_executed + index
        until: dict[GuidedPart, float] = {
            "cross": self.cross * num_steps,
            "temporal": self.temporal * num_steps,
            "spatial": num_steps - num_executed + _at_least_one(self.spatial * num_steps),
        }
        parts = frozenset(part for part, end in until.items() if place < end - ROUNDING)
        start, stop = (round(share * num_steps) for share in self.smoothing)
        return StepParts(
            attention=parts,
            features=place < self.features * num_steps - ROUNDING,
            smoothing=start <= place < stop,
        )


RELEASED_PLAN = StepPlan()


def _at_least_one(steps: float) -> int:
    return max(round(steps), 1) if steps else 0
