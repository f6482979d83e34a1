"""What a command of ours does with torch."""

import gc

import pytest

from legato.apps.computing import importing_torch


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()


def test_what_is_imported_is_not_searched_for_garbage():
    with importing_torch():
        assert not gc.isenabled()
        here = [[]]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert not any(found is here for found in gc.get_objects())


def test_garbage_of_before_is_collected_first():
    cycle: list[object] = []
    cycle.append(cycle)
    key = id(cycle)
    del cycle
    with importing_torch():
        pass
    gc.unfreeze()
    assert not any(id(found) == key for found in gc.get_objects() if type(found) is list)


def test_a_failed_import_leaves_the_collector_on():
    with pytest.raises(ImportError), importing_torch():
        raise ImportError
    assert gc.isenabled()
