"""Names of models: where they are looked for, and what is said when they are not there."""

import pytest

from legato.errors import ModelError
from legato.models import spec
from legato.models.spec import SPECS, find_folder


def test_a_path_is_a_folder(tmp_path):
    assert find_folder(str(tmp_path)) == tmp_path


def test_the_embedded_model_is_part_of_the_package():
    assert find_folder("embedded-x4").is_relative_to(spec.PACKAGED)


@pytest.mark.parametrize("name", [name for name, s in SPECS.items() if not s.packaged])
def test_an_absent_model_names_the_folder_to_fill(name, monkeypatch, tmp_path):
    monkeypatch.setattr(spec, "HOME", tmp_path)
    with pytest.raises(ModelError) as error:
        find_folder(name)
    assert str(tmp_path / name) in error.value.fix
    assert SPECS[name].source in error.value.fix
    (tmp_path / name).mkdir()
    assert find_folder(name) == tmp_path / name


def test_every_model_that_is_not_packaged_is_at_a_hub():
    for name, known in SPECS.items():
        assert bool(known.hubs) == (known.packaged is None), name
        assert all(hub.count("/") == 1 and " " not in hub for hub in known.hubs)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match="embedded-x4, driving, upscale-a-video"):
        find_folder("no-such-model")
