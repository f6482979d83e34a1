"""What `--consistency` can name, and which of the names go together; `docs/consistency.md`."""

from collections.abc import Sequence

from legato.errors import InputError

GUIDED_ATTENTION = ("spatial-guided", "cross-frame", "temporal-guided")
"""Parts of FRESCO's attention; they act together, in this order."""
FRESCO = (*GUIDED_ATTENTION, "features", "background", "shared-noise")
"""What the one word `fresco` stands for."""
UPSCALERS_FRESCO = (*FRESCO, "propagation", "fusion")
"""What it stands for in upscaling; these two are its smoothing of the clean estimate, in latents
and in pixels."""
FUSION_REACH = 1
"""Frames either way that `flow.fusion` looks at; here, since options must not load torch."""
NEIGHBOURS = ("first-frame", "first-and-previous", "trajectories", "nearest-tokens", "all-frames")
"""Attentions between frames of other systems, each instead of all others."""
EDITS = ("interleaved", "shape-aware", "pixel-aware", "color-aware")
"""Changes of the clean estimate by other systems; they go with any attention."""
FOLLOWERS = ("propagation", "cross-frame", "temporal-guided", "features", "trajectories")
"""What follows the optical flow while frames are upscaled; fusion has a quick one of its own."""
READERS = ("spatial-guided", "features", "nearest-tokens")
"""What compares frames with their input under a little noise."""
HOLDS = ("temporal", "propagation", "fusion", "fresco", *FRESCO, *NEIGHBOURS)
"""What upscaling takes."""
TRANSLATING = ("fresco", *FRESCO, *NEIGHBOURS, *EDITS)
"""What translating takes."""


def holds(
    consistency: str, *, known: Sequence[str] = HOLDS, fresco: Sequence[str] = FRESCO
) -> frozenset[str]:
    """Return the named ways of holding frames together, `fresco` as its parts; empty for `none`.

    Args:
        consistency: a comma list.
        known: the names that may be in it.
        fresco: the parts that `fresco` stands for.

    Raises:
        InputError: a name is unknown, `none` stands beside others, two attentions stand in for the
            same one, or background is to be carried in features that are not optimised.
    """
    names = named(consistency)
    if names == ["none"]:
        return frozenset()
    if "none" in names:
        raise InputError(
            f"consistency={consistency!r}",
            why="none goes with no other name",
            fix="leave it out, or name it alone",
        )
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(
            f"consistency={consistency!r}",
            why=f"{unknown[0]!r} is not one of them" if unknown else "nothing is named",
            fix=f"use a comma list of {', '.join(known)}, or none",
        )
    chosen = frozenset(names) - {"fresco"} | frozenset(fresco if "fresco" in names else ())
    _require_one_attention(consistency, chosen)
    if "background" in chosen and "features" not in chosen:
        raise InputError(
            f"consistency={consistency!r}",
            why="the background is carried along in features that are optimised",
            fix="add features, or leave background out",
        )
    return chosen


def named(consistency: str) -> list[str]:
    """Return the names in a comma list, as they were written."""
    return [name.strip() for name in consistency.split(",") if name.strip()]


def sees_other_frames(chosen: frozenset[str]) -> bool:
    """Tell whether the image model itself is made to look at other frames of a window."""
    return bool(chosen - {"temporal", "propagation", "fusion", "shared-noise", *EDITS})


def _require_one_attention(consistency: str, chosen: frozenset[str]) -> None:
    others = sorted(chosen & set(NEIGHBOURS))
    guided = sorted(chosen & set(GUIDED_ATTENTION))
    if len(others) + bool(guided) > 1:
        both = f"{others[0]} and {(others[1:] + guided)[0]}"
        raise InputError(
            f"consistency={consistency!r}",
            why=f"{both} stand in for the same self-attention",
            fix="name one of them",
        )
