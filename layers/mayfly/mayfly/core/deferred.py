"""Packages of Powertools that import their modules when code asks for a name.

The `__init__` of such a package only collects names, and imports every module to do so: resolvers
for GraphQL and agents, classes of forty kinds of event, a store that needs boto3. A function uses
one or two of them (docs/decisions/0020). So `__init__` does not run at first. A name of the table
below is imported from its module alone. Any other name makes `__init__` run as usual.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import MappingProxyType, ModuleType
from typing import Any, Final

__all__ = ["PACKAGES", "install"]

#: Packages whose `__init__` only imports names: the modules of the names that a function needs.
PACKAGES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "aws_lambda_powertools.event_handler": {
            "APIGatewayHttpResolver": "api_gateway",
            "ApiGatewayResolver": "api_gateway",
            "Response": "api_gateway",
        },
        # Names that Powertools' own resolver imports.
        "aws_lambda_powertools.utilities.data_classes": {
            "ALBEvent": "alb_event",
            "APIGatewayProxyEvent": "api_gateway_proxy_event",
            "APIGatewayProxyEventV2": "api_gateway_proxy_event",
            "BedrockAgentEvent": "bedrock_agent_event",
            "LambdaFunctionUrlEvent": "lambda_function_url_event",
            "S3Event": "s3_event",
            "VPCLatticeEvent": "vpc_lattice",
            "VPCLatticeEventV2": "vpc_lattice",
            # A decorator, whose module has the same name.
            "event_source": "event_source",
        },
        "aws_lambda_powertools.utilities.idempotency": {},
    }
)


def install() -> None:
    """Defers the packages that are imported from now on. A second call changes nothing."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Package(ModuleType):
    def __getattr__(self, name: str) -> Any:
        """Imports a name from its module. Runs `__init__` for a name that is not in the table."""
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        if module := PACKAGES[self.__name__].get(name):
            value = getattr(import_module(f"{self.__name__}.{module}"), name)
            ModuleType.__setattr__(self, name, value)
            return value
        if PathFinder.find_spec(f"{self.__name__}.{name}", self.__path__):
            return import_module(f"{self.__name__}.{name}")
        self._run_once(name)
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute. An import of a module must not hide the package's name like it."""
        if isinstance(value, ModuleType) and PACKAGES[self.__name__].get(name) == name:
            value = getattr(value, name)
        ModuleType.__setattr__(self, name, value)

    def _run_once(self, name: str) -> None:
        assert self.__spec__ is not None
        loader: Any = self.__spec__.loader  # a _Loader
        # Another thread waits until `__init__` has run. If `__init__` needs its own package for
        # that, as in any circular import, it finds the names that are there.
        with loader.lock:
            if type(self) is ModuleType:
                return
            if loader.is_running:
                raise AttributeError(name)
            loader.is_running = True
            try:
                loader.own.exec_module(self)
            finally:
                loader.is_running = False
            self.__class__ = ModuleType  # type: ignore[assignment]  # from now on like any module


class _Loader:
    """Loads a package without running it. `own` is its usual loader."""

    def __init__(self, own: Any) -> None:
        self.own = own
        self.lock = RLock()
        self.is_running = False

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
            # It has all that the import system calls. Importing importlib.abc for a base class
            # would take longer than the rest of this module.
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec
