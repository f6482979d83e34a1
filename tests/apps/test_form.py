"""The page's forms are made from the options: what they say is what flags say."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.apps.arguments import parse
from legato.apps.form import entries, to_arguments
from legato.apps.generate import GenerateCommand
from legato.apps.translate import TranslateCommand
from legato.apps.upscale import UpscaleCommand
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.upscale_options import UpscaleOptions

COMMANDS = {
    UpscaleCommand: ["--", "in.mp4", "out.mp4"],
    GenerateCommand: ["--out=out.mp4", "--", "night"],
    TranslateCommand: ["--", "in.mp4", "out.mp4"],
}
NAMED_BY_PLACE = {"--help", "--out", "-o"}


def said_by(command, **values):
    by_name = {entry.name: entry for entry in entries(command)}
    flags = to_arguments({by_name[name]: value for name, value in values.items()})
    return parse(command, [*flags, *COMMANDS[command]], name="test")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_an_entry_with_the_same_help(command, capsys):
    with pytest.raises(SystemExit):
        parse(command, ["--help"], name="test")
    said = capsys.readouterr().out
    flags = set(re.findall(r"^[ │]*(--\w[\w-]+)", said, re.MULTILINE)) - NAMED_BY_PLACE
    found = list(entries(command))
    assert len(found) == len({entry.flag for entry in found}) > 20
    assert {entry.flag for entry in found} == flags
    words = " ".join(re.sub(r"[│]", " ", said).split())
    assert [entry.flag for entry in found if not entry.help or entry.help not in words] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_form_that_is_left_alone_means_the_defaults(command):
    untouched = {
        entry: entry.default if entry.is_switch else str(entry.default or "")
        for entry in entries(command)
        if not entry.is_list
    }
    assert to_arguments(untouched) == []
    assert to_arguments(dict.fromkeys(entries(command))) == []


def test_what_is_filled_in_arrives():
    command = said_by(
        UpscaleCommand,
        noise_level=" 20 ",
        prompt="-x, y = z",
        keep_interlaced=True,
        codec="x265",
        scale="2.5",
        raft="my weights/raft.safetensors",
        offload=True,
    )
    assert command.options.restore == RestoreOptions(
        noise_level=20, prompt="-x, y = z", raft=Path("my weights/raft.safetensors")
    )
    assert (command.options.read.keep_interlaced, command.options.scale) == (True, 2.5)
    assert (command.options.output.codec, command.run.offload) == ("x265", True)


def test_a_list_has_a_value_on_every_line():
    command = said_by(TranslateCommand, prompt_at="1=night\n\n 0:02 = day, rain \n", model="m")
    assert command.options.prompt_at == ("1=night", "0:02 = day, rain")


def test_choices_are_those_of_the_type():
    by_name = {entry.name: entry for entry in entries(GenerateCommand)}
    assert by_name["interpolations"].choices == ("0", "1", "2")
    assert by_name["solver"].choices == ("ddim", "dpm++", "unipc")
    assert by_name["seed"].choices == ()
    assert said_by(GenerateCommand, interpolations="1").options.interpolations == 1


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30))
def test_any_words_arrive_but_for_spaces_around_them(words):
    options = said_by(UpscaleCommand, prompt=words).options
    assert options == UpscaleOptions(restore=RestoreOptions(prompt=words.strip()))
