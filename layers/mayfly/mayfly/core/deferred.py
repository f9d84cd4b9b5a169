"""Packages of Powertools that import their modules when code asks for a name.

The `__init__` of such a package only collects names, and imports every module to do so: resolvers
for GraphQL and agents, classes of forty kinds of event, a store that needs boto3. A function uses
one or two of them (docs/decisions/0020). So `__init__` is not run. The package reads in its
byte-code which module has which name, and imports a module when code asks for one of its names.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from types import CodeType, ModuleType
from typing import Any, Final

__all__ = ["PACKAGES", "install", "names_in"]

#: Packages whose `__init__` only imports names.
PACKAGES: Final = frozenset(
    {
        "aws_lambda_powertools.event_handler",
        "aws_lambda_powertools.utilities.data_classes",
        "aws_lambda_powertools.utilities.idempotency",
    }
)


def install() -> None:
    """Defers the packages that are imported from now on. A second call changes nothing."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def names_in(code: CodeType, package: str) -> dict[str, tuple[str, str]]:
    """Returns the module and attribute of each name that the code of a package imports."""
    import dis  # noqa: PLC0415  # Powertools has imported it, if a package is asked for a name

    names: dict[str, tuple[str, str]] = {}
    module = attribute = ""
    loads: list[Any] = []
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            level = loads[-2]  # then the list of names
            module = resolve_name("." * level + step.argval, package) if level else step.argval
        elif step.opname == "IMPORT_FROM":
            attribute = step.argval
        elif step.opname == "STORE_NAME" and attribute:
            names[step.argval] = (module, attribute)
            attribute = ""
        elif step.opname.startswith("LOAD_"):
            loads.append(step.argval)
    return names


class _Package(ModuleType):
    def __getattr__(self, name: str) -> Any:
        """Imports a name of the package. Runs `__init__` for a name that it does not import."""
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        assert self.__spec__ is not None
        loader: Any = self.__spec__.loader  # a _Loader
        if loader.names is None:
            loader.names = names_in(loader.own.get_code(self.__name__), self.__name__)
        if name in loader.names:
            module, attribute = loader.names[name]
            value = getattr(import_module(module), attribute)
            setattr(self, name, value)
            return value
        if PathFinder.find_spec(f"{self.__name__}.{name}", self.__path__):
            return import_module(f"{self.__name__}.{name}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # from now on like any module
        loader.own.exec_module(self)
        return getattr(self, name)


class _Loader:
    """Loads a package without running it. `own` is its usual loader."""

    def __init__(self, own: Any) -> None:
        self.own = own
        self.names: dict[str, tuple[str, str]] | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Returns None: the import system makes the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Makes the module a deferred package."""
        module.__class__ = _Package

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the spec of a package that is deferred, None for any other module."""
        if name not in PACKAGES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec
