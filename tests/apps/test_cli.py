import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from clips import pixels_of

import legato
from legato.apps import cli, doctor
from legato.apps import upscale as upscale_app
from legato.apps.arguments import SAMPLING_ALIASES, parse
from legato.apps.verify import VerifyCommand
from legato.errors import (
    DecodeError,
    InputError,
    Interrupted,
    LegatoError,
    ModelError,
    ResourceError,
)
from legato.models import spec
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.run_options import RunOptions
from legato.pipelines.upscale_options import PARTS, UpscaleOptions
from legato.training.recipes import TrainOptions
from legato.video.codecs import CodecOptions
from legato.video.read import ReadOptions


def parsed(*arguments):
    flags = ["in.mp4", "out.mp4", *arguments]
    return parse(upscale_app.UpscaleCommand, flags, name="upscale", aliases=SAMPLING_ALIASES)


def test_no_flags_mean_the_defaults_of_python():
    assert parsed().options == UpscaleOptions()
    assert parsed().run == RunOptions()


def test_every_flag_of_the_issue_is_there(capsys):
    with pytest.raises(SystemExit):
        parse(upscale_app.UpscaleCommand, ["--help"], name="upscale")
    said = capsys.readouterr().out
    wanted = [
        *(
            "noise-level",
            "solver",
            "prompt",
            "negative-prompt",
            "consistency",
            "propagate",
            "color",
        ),
        *("scale", "height", "fidelity", "seed", "model", "device", "dtype", "tile", "window"),
        *("segment", "codec", "crf", "start", "end", "preview", "restart", "report", "json"),
        *("strict", "keep-interlaced", "caption"),
    ]
    assert [flag for flag in wanted if not re.search(rf"--{flag}\b", said)] == []
    assert {"--steps", "--guidance"} <= set(SAMPLING_ALIASES)


def test_every_option_is_one_flag_with_help(capsys):
    with pytest.raises(SystemExit):
        parse(upscale_app.UpscaleCommand, ["--help"], name="upscale")
    said = capsys.readouterr().out
    kinds = (UpscaleOptions, ReadOptions, RestoreOptions, CodecOptions, RunOptions)
    names = [f.name for kind in kinds for f in fields(kind) if f.name not in PARTS]
    for name in names:
        assert len(re.findall(rf"^ +--{name.replace('_', '-')} ", said, re.MULTILINE)) == 1, name


@pytest.mark.parametrize("name", ["upscale", "generate", "translate", "compare", "plan"])
def test_no_heading_of_the_help_is_an_inner_name(name, capsys):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    headings = re.findall(r"^ (.*options) *$", capsys.readouterr().out, re.MULTILINE)
    assert headings[0] == "options"
    assert [h for h in headings if h.startswith("options ") or "." in h] == []


def test_short_flags_mean_the_long_ones():
    command = parsed("--steps", "4", "--guidance=2.5", "--prompt", "face")
    chosen = RestoreOptions(num_inference_steps=4, guidance_scale=2.5, prompt="face")
    assert command.options.restore == chosen


def test_the_doctor_looks_at_every_bundled_model(monkeypatch, tmp_path, capsys):
    assert cli.main(["doctor"]) == 0
    whole = capsys.readouterr().out
    bundled = [name for name, known in spec.SPECS.items() if known.packaged]
    assert [name for name in bundled if f"ok        model {name}, Apache-2.0" in whole] == bundled
    shutil.copytree(spec.PACKAGED, tmp_path / "models")
    (tmp_path / "models" / "driving" / "words" / "config.json").unlink()
    monkeypatch.setattr(spec, "PACKAGED", tmp_path / "models")
    assert cli.main(["doctor"]) == doctor.BROKEN
    assert re.search(r"missing   model driving: .*words/config\.json", capsys.readouterr().out)


def test_training_has_steps_of_its_own():
    options = parse(TrainOptions, ["--data", "clips", "--steps", "3"], name="train embedded")
    assert options.steps == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scale", "x"], "--scale"),
        (["--nonsense"], "--nonsense"),
        (["--codec", "h267"], "h267"),
        (["--color", "blue"], "blue"),
        (["--solver", "euler"], "euler"),
        (["--compat", "theirs"], "theirs"),
        (["--start", "soon"], "soon"),
        (["--scale", "100"], "scale=100"),
        (["--steps", "0"], "num_inference_steps=0"),
    ],
)
def test_a_bad_flag_is_one_line_and_exit_code_2(capsys, arguments, says):
    assert cli.main(["upscale", "in.mp4", "out.mp4", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    assert says in said


@pytest.mark.parametrize(
    ("kind", "code"),
    [(InputError, 2), (DecodeError, 2), (ModelError, 3), (ResourceError, 4), (Interrupted, 130)],
)
def test_exit_codes(kind, code):
    assert cli.exit_code(kind("a", why="b", fix="c")) == code
    assert cli.exit_code(LegatoError("a", why="b", fix="c")) == 1


def failing(error):
    def run(_):
        raise error

    return run


def test_a_bug_is_one_line_without_debug_and_a_traceback_with_it(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "run", failing(ZeroDivisionError("division\nby zero")))
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["doctor", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_path_that_may_not_be_read_or_written_is_named(capsys, monkeypatch):
    error = PermissionError(13, "Permission denied", "secret/film.mp4")
    monkeypatch.setattr(doctor, "run", failing(error))
    assert cli.main(["doctor"]) == cli.exit_code(InputError("x", why="y", fix="z"))
    assert "secret/film.mp4: this user may not read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["upscale", "a", "b", "--steps", "0"], "error: num_inference_steps=0: out of range"),
        (["upscale", "a", "b", "--crf", "999"], "error: crf=999: out of range"),
        (["upscale", "a"], "error: legato upscale a: missing: OUT What to write"),
        (["upscale", "a", "b", "--color", "foo"], "'none'); see legato upscale --help"),
    ],
)
def test_a_wrong_flag_is_told_without_inner_names(capsys, given, said):
    assert cli.main(given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert "options." not in error


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["upscal", "a", "b"], "did you mean upscale?"),
        (["zzz"], "use one of upscale, generate,"),
        (["upscale", "a", "b", "--modle", "foo"], "no option --modle; did you mean --model? see"),
        (["upscale", "a", "b", "--step", "4"], "no option --step; did you mean --steps? see"),
        (["upscale", "a", "b", "--zzz"], "no option --zzz; see legato upscale --help"),
    ],
)
def test_what_is_misspelled_is_told_with_what_is_nearest(capsys, given, said):
    assert cli.main(given) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["1", "3", "40"])
def test_the_narrowest_terminal_gets_its_help(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit):
        parse(VerifyCommand, ["--help"], name="verify")
    assert max(map(len, capsys.readouterr().out.splitlines()[9:])) <= 40
    assert os.environ["COLUMNS"] == columns


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.EIO, 4, "its disk cannot be read or written; check the disk"),
        (errno.EDQUOT, 4, "the quota of its disk is used up"),
        (errno.EROFS, 2, "its disk is read-only"),
        (errno.ENAMETOOLONG, 2, "the name is too long for its disk"),
    ],
)
def test_what_the_system_refuses_is_no_bug(capsys, monkeypatch, number, code, said):
    monkeypatch.setattr(doctor, "run", failing(OSError(number, os.strerror(number), "a.mp4")))
    assert cli.main(["doctor"]) == code
    error = capsys.readouterr().err
    assert error.startswith(f"error: a.mp4: {said}")
    assert error.count("\n") == 1


def test_closed_standard_streams_do_no_harm(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["--version"]) == 0
    assert cli.main(["upscal"]) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["--help", "models"])
def test_output_that_cannot_be_written_is_one_line(command):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "legato.apps.entry", command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr


def test_ctrl_c_is_130(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "run", failing(KeyboardInterrupt()))
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err.startswith("error: interrupted")


def test_without_a_command_there_is_help(capsys):
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
    assert legato.__version__ in capsys.readouterr().out
    assert cli.main(["upscal"]) == 2
    assert "upscale" in capsys.readouterr().err


@pytest.mark.parametrize("start", ["abc", None, "1/0", [], float("inf")])
def test_a_damaged_report_is_told(capsys, tmp_path, start):
    report = tmp_path / "r.json"
    report.write_text(json.dumps({"target": "x", "range": {"start": start}}))
    assert cli.main(["verify", "a.mkv", "b.mkv", "--report", str(report)]) == 2
    assert "the report is damaged" in capsys.readouterr().err


def test_the_root_cannot_be_planned(capsys):
    assert cli.main(["plan", "/", "--quiet"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_upscale_verify_and_compare(capsys, clip, tmp_path, tiny_model):
    source, target = str(clip()), str(tmp_path / "out.mkv")
    flags = ["--model", tiny_model, "--codec", "ffv1", "--end", "0.2", "--json"]
    assert cli.main(["upscale", source, target, *flags]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["frames_out"] == 6
    assert "upscaling" in said.err
    code = cli.main(["verify", source, target])  # by the report's range
    assert (code, capsys.readouterr().out) == (0, "all of the input is in the output: 6 frames\n")
    assert cli.main(["verify", source, target, "--report", source]) == 2
    assert "no report of a job" in capsys.readouterr().err
    (tmp_path / "out.mkv.legato.json").unlink()
    assert cli.main(["verify", source, target]) == 1
    assert "10" in capsys.readouterr().out
    assert cli.main(["compare", source, target, str(tmp_path / "both.mp4")]) == 0
    assert (tmp_path / "both.profile.png").exists()


def test_the_command_line_gives_what_python_gives(clip, options, tmp_path, tiny_model):
    source = clip()
    legato.upscale(source, tmp_path / "a.mkv", options(seed=3))
    flags = ["--model", tiny_model, "--codec", "ffv1", "--seed", "3", "--segment", "4", "--quiet"]
    assert cli.main(["upscale", str(source), str(tmp_path / "b.mkv"), *flags]) == 0
    assert (pixels_of(tmp_path / "a.mkv") == pixels_of(tmp_path / "b.mkv")).all()


def test_a_preview_prints_its_picture(capsys, clip, tmp_path, tiny_model):
    target = tmp_path / "part.mp4"
    flags = ["--model", tiny_model, "--preview", "--quiet"]
    assert cli.main(["upscale", str(clip("in.mkv")), str(target), *flags]) == 0
    assert str(target) + ".preview.png" in capsys.readouterr().out


def test_a_folder_with_a_damaged_video_ends_with_its_code(capsys, clip, tmp_path, tiny_model):
    (tmp_path / "in").mkdir()
    clip("in/a.mkv", frames=2)
    (tmp_path / "in" / "b.mp4").write_text("no video")
    flags = ["--model", tiny_model, "--codec", "ffv1", "--quiet"]
    assert cli.main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), *flags]) == 2
    said = capsys.readouterr()
    assert "a.mkv" in said.out
    assert "error: b.mp4" in said.err


def test_plan_prints_every_number(capsys, clip, tiny_model):
    assert cli.main(["plan", str(clip()), "--model", tiny_model, "--quiet"]) == 0
    said = capsys.readouterr().out
    for word in ("frames", "1 shot", "memory", "disk", "time"):
        assert word in said


def test_doctor_finds_nothing_missing(capsys):
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "embedded-x4" in said
    assert "missing" not in said


def test_doctor_says_how_to_mend(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "REQUIRED", ("no-such-package",))
    assert cli.main(["doctor"]) == doctor.BROKEN
    assert "pip install no-such-package" in capsys.readouterr().out


def test_models_are_listed(capsys):
    assert cli.main(["models", "list"]) == 0
    assert "embedded-x4" in capsys.readouterr().out
    assert cli.main(["models", "list", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert Path(known["embedded-x4"]["folder"]).is_dir()
    assert "legato models pull" in known["sd-x4-upscaler"]["fix"]
    assert cli.main(["models", "nonsense"]) == 2
    assert cli.main(["models", "convert", "/nowhere", "/tmp/x"]) in (2, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ["upscale", "x", "--scale", "y"],
        ["upscale", "/nowhere.mp4", "out.mp4"],
        ["plan", "/nowhere.mp4", "--device", "abacus"],
        ["upscale", "/nowhere.mp4", "out.mp4", "--dtype", "float8"],
        ["generate", "--frames", "y"],
        ["generate", "-o", "out.mp4", "--first-frame", "/nowhere.png"],
        ["generate", "-o", "out.xyz"],
        ["generate", "-o", "out.mp4", "--model", "m"],
        ["translate", "/nowhere.mp4", "out.mp4", "--model", "m"],
    ],
)
def test_errors_do_not_wait_for_torch(arguments):
    code = (
        f"import sys; from legato.apps.cli import main; main({arguments});"
        "print('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps:0", "xpu"])
def test_devices_of_torch_are_taken(device):
    assert RunOptions(device=device).device == device


@pytest.mark.parametrize("wrong", [{"device": d} for d in ("abacus", "cuda:", "cuda:x", "", "CPU")])
def test_devices_that_torch_does_not_know_are_refused(wrong):
    with pytest.raises(InputError, match=r"device='.*': torch does not know it"):
        RunOptions(**wrong)
