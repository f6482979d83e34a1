import json

import pytest

from legato.evaluation.measure import ClipFigures
from legato.evaluation.registration import Registration
from legato.evaluation.summary import cells, summarise, to_json, to_latex, to_markdown


def figures(name, psnr, *, shift=0.0, with_lpips=True):
    lpips = {"lpips": [0.2] * len(psnr)} if with_lpips else {}
    return ClipFigures(
        name=name,
        num_frames=len(psnr),
        size=(96, 64),
        series={"shift": [shift], "psnr": psnr, **lpips},
        registration=Registration(x=shift, y=0.0, error=0.0),
        spectrum=[0.0, 1.0],
    )


@pytest.fixture
def two():
    return summarise([figures("a_1", [20.0, 22.0]), figures("b", [30.0], with_lpips=False)])


def test_every_clip_counts_the_same(two):
    assert two.means["psnr"] == pytest.approx((21 + 30) / 2)
    low, high = two.intervals["psnr"]
    assert (low, high) == pytest.approx((21, 30))
    assert two.over == "clips"


def test_a_figure_that_one_clip_lacks_has_no_mean(two):
    assert "lpips" not in two.means
    assert [row[-1] for row in cells(two)] == ["LPIPS", "0.2000", "-", "-", "-"]


def test_one_clip_has_intervals_over_its_frames():
    found = summarise([figures("a", [20.0, 22.0, 24.0])])
    low, high = found.intervals["psnr"]
    assert low < 22 < high
    assert "shift" not in found.intervals
    assert "frames of one clip" in found.notices[-1]
    assert [row[0] for row in cells(found)] == ["clip", "a", "95% over frames"]


def test_the_seed_changes_the_interval():
    clips = [figures(str(k), [20.0 + k**1.5]) for k in range(9)]
    assert summarise(clips, seed=1).intervals != summarise(clips, seed=2).intervals


def test_shifts_are_marked_and_come_first():
    found = summarise([figures("a", [20.0], shift=0.5), figures("b", [20.0])], notices=["no VMAF"])
    assert found.notices[0].startswith("a (!) lies +0.50 px right")
    assert [row[1] for row in cells(found)[1:3]] == ["0.50 (!)", "0.00"]


def test_markdown_is_one_table_with_its_legend(two):
    lines = to_markdown(two).splitlines()
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert "21.00 to 30.00" in lines[5]
    assert lines[7] == "higher is better: PSNR dB; lower is better: shift px, LPIPS."


def test_latex_escapes_names_and_has_as_many_columns(two):
    text = to_latex(two)
    assert r"a\_1" in text
    assert r"95\% over clips" in text
    assert r"\begin{tabular}{lrrr}" in text
    assert {line.count("&") for line in text.splitlines() if line.endswith(r"\\")} == {3}


def test_json_holds_every_frame(two):
    data = json.loads(to_json(two))
    assert data["clips"]["a_1"]["series"]["psnr"] == [20.0, 22.0]
    assert data["clips"]["a_1"]["spectrum"]["cycles_per_frame"] == [0.0, 0.5]
    assert data["means"]["psnr"] == pytest.approx(25.5)
