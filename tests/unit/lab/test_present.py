"""The reads of the comparison after a storm."""

from typing import Any

import pytest

from mayfly_lab.chaos.api import Answer, Api
from mayfly_lab.chaos.present import read
from mayfly_local.errors import LocalError


class Scripted(Api):
    """An API that gives one answer after another."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(1, "key")
        self.left = list(answers)

    def send(self, *_: Any, **__: Any) -> Answer:
        return self.left.pop(0)


@pytest.mark.parametrize("failure", [Answer(0), Answer(500), Answer(503, {"code": "x"})])
@pytest.mark.parametrize("last", [Answer(200, {"data": {}}), Answer(404, {"code": "no"})])
def test_failed_read_is_repeated(failure: Answer, last: Answer) -> None:
    assert read(Scripted(failure, failure, last), "/sessions/current", pause=0) == last


@pytest.mark.parametrize(
    ("failure", "said"), [(Answer(503, {"code": "x"}), "503 x"), (Answer(0), "not at all")]
)
def test_read_that_always_fails_is_an_error_and_not_a_difference(
    failure: Answer, said: str
) -> None:
    api = Scripted(*[failure] * 5)
    with pytest.raises(LocalError, match=f"cannot read /limits/l: 3 requests .* {said}"):
        read(api, "/limits/l?key=acme", tries=3, pause=0)
    assert len(api.left) == 2
