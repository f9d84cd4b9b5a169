"""Stage variables in the URIs of integrations and authorizers, which API Gateway fills in.

Page aws-api-gateway-stage-variables-reference of
https://docs.aws.amazon.com/apigateway/latest/developerguide/
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mayfly_local.application.apis import Stage
from mayfly_local.application.classes import Report

__all__ = ["StageVariables"]

_VARIABLE: Final = re.compile(r"\$\{stageVariables\.(\w+)\}")
#: Keys whose text is a URI, in definitions and in resources.
_URIS: Final = {"uri", "Uri", "IntegrationUri", "authorizerUri", "AuthorizerUri"}


class StageVariables:
    """The variables of an API's first stage, whose routes are those of all stages here."""

    def __init__(self, api: str, stages: Sequence[Stage], report: Report) -> None:
        self._api = api
        self._stages = stages
        self._report = report

    def filled(self, value: Any) -> Any:
        """Returns a definition, or properties of a resource, with the variables in its URIs.

        A variable that the stage does not have stays. If another stage has another value of a
        variable, it is reported as absent.
        """
        if isinstance(value, list):
            return [self.filled(member) for member in value]
        if not isinstance(value, Mapping):
            return value
        return {
            key: _VARIABLE.sub(self._value, member)
            if key in _URIS and isinstance(member, str)
            else self.filled(member)
            for key, member in value.items()
        }

    def _value(self, found: re.Match[str]) -> str:
        first, *others = self._stages
        value = first.variables.get(found[1])
        for stage in others:
            if stage.variables.get(found[1]) != value:
                self._report.absent(
                    self._api, f"the value of {found[1]} in {stage.name}: {first.name} has its own"
                )
        return found[0] if value is None else value
