"""Finds the data of AWS services that `make build` leaves out.

The build copies this file to `botocore/left_out.py`, and imports it at the end of
`botocore/loaders.py`. A client of a service that the build does not list then uses the data of
another botocore on `sys.path`. Lambda's Python has one. mayfly_cli/bundling/services.py has the
list.
"""

import os
import sys
from typing import Any, Final

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader

__all__ = ["ServiceLeftOut"]

#: The folder that holds this botocore.
_OWN: Final = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))
_load = Loader.load_service_model


class ServiceLeftOut(UnknownServiceError):
    """The build left the service out, and no other botocore was found."""

    fmt = (
        "The AWS service '{service_name}' is not in this deployment, which has "
        "{known_service_names}. No other botocore is on sys.path to take its data from. Add "
        "--service {service_name} to mayfly bundle in the Makefile of the function, or, in a "
        "checkout of Mayfly, the service to SERVICES in mayfly_cli/bundling/services.py; deploy "
        "again"
    )


def _load_service_model(
    self: Loader, service_name: str, type_name: str, api_version: str | None = None
) -> Any:
    """Loads a model as botocore does; takes a service that is not here from other folders.

    Raises ServiceLeftOut if there are no other folders, and botocore's own errors.
    """
    try:
        return _load(self, service_name, type_name, api_version)
    except UnknownServiceError as problem:
        # A service that is here need not have a file of each type, such as waiters.
        if service_name in self.list_available_services("service-2"):
            raise
        others = _other_data()
        if not others:
            raise ServiceLeftOut(**problem.kwargs) from None
        new = [folder for folder in others if folder not in self.search_paths]
        if not new:
            raise
        # They come last, so that services that are here keep their locked data.
        self.search_paths.extend(new)
        self._cache.clear()  # type: ignore[attr-defined]
        return _load(self, service_name, type_name, api_version)


def _other_data() -> list[str]:
    """Returns the folders with data of other installations of botocore and boto3."""
    folders = [
        os.path.join(path, package, "data")
        for path in sys.path
        if os.path.realpath(path) != _OWN
        for package in ("botocore", "boto3")
    ]
    return [folder for folder in folders if os.path.isdir(folder)]


Loader.load_service_model = _load_service_model  # type: ignore[method-assign]
