"""Which part acts when: at 20 steps as released, and sensibly at any other number."""

from hypothesis import given, settings
from hypothesis import strategies as st

from legato.diffusion.step_plan import StepPlan

PLAN = StepPlan()


def steps(num_steps, skipped=0, plan=PLAN):
    executed = num_steps - skipped
    return [plan.at(k, num_executed=executed, num_steps=num_steps) for k in range(executed)]


def count(parts, name):
    return sum(name in part.attention for part in parts)


def test_twenty_steps_act_as_in_the_released_code():
    """Timesteps 951, 901, ..., 1: temporal while t >= 350, smoothing at t = 151 and 101."""
    for skipped, temporal, features in ((0, 13, 15), (3, 10, 12), (5, 8, 10), (8, 5, 7)):
        parts = steps(20, skipped)
        assert count(parts, "temporal") == temporal
        assert sum(part.features for part in parts) == features
        assert count(parts, "cross") == 20 - skipped
        assert [k for k, part in enumerate(parts) if "spatial" in part.attention] == [0]
        smoothed = [k + skipped for k, part in enumerate(parts) if part.smoothing]
        assert smoothed == [16, 17]


def test_a_single_step_has_all_but_smoothing():
    (only,) = steps(1)
    assert only.attention == {"spatial", "cross", "temporal"}
    assert only.features
    assert not only.smoothing


def test_nothing_acts_where_all_is_zero():
    off = StepPlan(spatial=0.0, cross=0.0, temporal=0.0, features=0.0, smoothing=(0.0, 0.0))
    assert not any(p.attention or p.features or p.smoothing for p in steps(20, plan=off))


@settings(max_examples=30)
@given(num_steps=st.integers(1, 60), data=st.data())
def test_a_part_acts_from_the_start_until_its_end(num_steps, data):
    skipped = data.draw(st.integers(0, num_steps - 1))
    parts = steps(num_steps, skipped)
    for acts in (
        *([name in p.attention for p in parts] for name in ("spatial", "cross", "temporal")),
        [p.features for p in parts],
    ):
        assert acts == sorted(acts, reverse=True)
    assert "spatial" in parts[0].attention
    whole = steps(num_steps)[skipped:]
    assert [p.features for p in parts] == [p.features for p in whole]
