"""Powertools' package `idempotency`, without its import of boto3.

The package's `__init__` imports the persistence layer for DynamoDB, and with it boto3: a hundred
modules that a worker does not use. The modules that a worker needs do not depend on it. So the
package is put in place here with its path only, and runs its `__init__` when code asks it for a
name: tasks that use Powertools' own layer work as always (docs/decisions/0018).
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, Final

__all__ = ["prepare"]

_NAME: Final = "aws_lambda_powertools.utilities.idempotency"


class _Package(ModuleType):
    def __getattr__(self, name: str) -> Any:
        """Runs the package's `__init__`, and returns one of its names."""
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]  # from now on as any module
        spec = self.__spec__
        assert isinstance(spec, ModuleSpec)
        assert spec.loader is not None
        spec.loader.exec_module(self)
        return getattr(self, name)


def prepare() -> None:
    """Puts the package in place, unless it is imported already."""
    if _NAME in sys.modules:
        return
    spec = find_spec(_NAME)
    assert spec is not None, "aws-lambda-powertools is not installed"
    package = module_from_spec(spec)
    package.__class__ = _Package
    sys.modules[_NAME] = package
