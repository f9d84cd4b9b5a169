"""moto in place of AWS, for botocore's clients and for the lean one."""

from contextlib import AbstractContextManager
from typing import Any, ClassVar

from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.core.models import botocore_stubber

__all__ = ["MockedAws"]


class MockedAws(AbstractContextManager["MockedAws"]):
    """moto, empty at the start of the outermost block.

    moto's own `mock_aws` also answers the library requests. For that it registers thousands of
    patterns each time, which takes longer than most tests. It also drops boto3's session, and a
    new one reads every service model again. Nested blocks share one moto, as in `mock_aws`.
    """

    _depth: ClassVar[int] = 0

    def __enter__(self) -> "MockedAws":
        """Starts moto."""
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stops moto."""
        self.stop()

    def start(self) -> None:
        """Starts moto, without any state if it does not run yet."""
        if MockedAws._depth == 0:
            _forget()
            botocore_stubber.enabled = True
        MockedAws._depth += 1

    def stop(self) -> None:
        """Stops moto at the end of the outermost block, and forgets its state."""
        MockedAws._depth -= 1
        if MockedAws._depth == 0:
            botocore_stubber.enabled = False
            _forget()


def _forget() -> None:
    BackendDict.reset()
    reset_model_data()
