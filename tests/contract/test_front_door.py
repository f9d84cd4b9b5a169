"""The names that applications import from `mayfly` itself."""

import subprocess
import sys

import mayfly
import pytest


@pytest.mark.parametrize("name", mayfly.__all__)
def test_front_door_gives_every_name_that_it_lists(name: str) -> None:
    assert getattr(mayfly, name).__class__ is not type(mayfly)


def test_features_are_imported_from_the_front_door() -> None:
    program = (
        "from mayfly import counters, jobs, limits, resources, sessions; "
        "print(jobs.submit.__name__, sessions.create.__name__, counters.increment.__name__, "
        "limits.take.__name__, resources.worker.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["submit", "create", "increment", "take", "worker"]


def test_front_door_lists_every_name_that_it_gives() -> None:
    assert set(mayfly._NAMES) == set(mayfly.__all__)


def test_front_door_has_no_other_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Missing'"):
        _ = mayfly.Missing  # type: ignore[attr-defined]


def test_front_door_imports_nothing_before_a_name_is_asked_for() -> None:
    program = (
        "import sys, mayfly; before = set(sys.modules); mayfly.Job; "
        "print(*sorted(m for m in before if m.startswith('mayfly.')), 'mayfly.jobs' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    # The core's package is empty, and the other module defers packages of Powertools.
    assert done.stdout.split() == ["mayfly.core", "mayfly.core.deferred", "True"]
