"""The resources of a template, with the intrinsic functions in their properties evaluated."""

from dataclasses import dataclass
from typing import Any

from mayfly_local.application.build.scope import Scope
from mayfly_local.application.classes import Report
from mayfly_local.application.template import UNUSABLE, Template
from mayfly_local.errors import TemplateError

__all__ = ["Report", "Resources", "as_text"]


@dataclass(frozen=True)
class Resources:
    """The resources of a template, and the values that their properties may refer to."""

    template: Template
    scope: Scope

    def of_type(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Returns logical id and resolved properties of all resources of a type.

        Raises TemplateError.
        """
        return [
            (name, self.resolve(name, properties))
            for name, properties in self.template.of_type(kind).items()
        ]

    def resolve(self, name: str, properties: dict[str, Any]) -> dict[str, Any]:
        """Returns the properties of one resource with their intrinsic functions evaluated.

        Leaves out properties that change nothing locally: their values may refer to something that
        does not exist here. Raises TemplateError.
        """
        skipped = (
            {"Tags", "AccessLogSettings", "FunctionName"} if "Handler" in properties else {"Tags"}
        )
        wanted = {key: value for key, value in properties.items() if key not in skipped}
        path = self.template.path
        try:
            resolved: dict[str, Any] = self.template.resolve(wanted, self.scope)
        except TemplateError as problem:
            raise TemplateError(
                path, [f"resource {name}: {text}" for text in problem.problems]
            ) from None
        except UNUSABLE as problem:
            raise TemplateError(
                path, [f"resource {name}: a value cannot be used ({problem})"]
            ) from None
        return resolved


def as_text(value: Any) -> str:
    """Returns a value of a template as text. A boolean is lower case, as in CloudFormation."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
