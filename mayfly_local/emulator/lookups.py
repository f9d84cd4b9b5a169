"""The values of a template's dynamic references: given, of the template, or of the emulator."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mayfly_local.application.build.scope import Scope
from mayfly_local.application.classes import Class, Part
from mayfly_local.application.dynamic_references import DynamicReference, dynamic_references
from mayfly_local.application.template import Template
from mayfly_local.emulator.clients import Clients
from mayfly_local.errors import TemplateError

__all__ = ["naming_unknown", "stored_parameters", "with_dynamic_values"]


async def stored_parameters(template: Template, clients: Clients) -> dict[str, str]:
    """Returns the options of `--parameter` for the parameters that the emulator has a value of.

    These are parameters of Systems Manager that parameters of the template name.
    """
    found: dict[str, str] = {}
    for stored in template.unknown:
        value = await _stored(DynamicReference(stored.option, "ssm", stored.name), clients)
        if value is not None:
            found[stored.option] = value
    return found


@contextmanager
def naming_unknown(template: Template) -> Iterator[None]:
    """Adds to a TemplateError the parameters without a value: they may be its reason."""
    try:
        yield
    except TemplateError as problem:
        unknown = [f"{stored.option}: {stored}" for stored in template.unknown]
        raise TemplateError(template.path, [*problem.problems, *unknown]) from None


async def with_dynamic_values(template: Template, clients: Clients, scope: Scope) -> Template:
    """Returns a template with a value for each of its dynamic references.

    `scope` has the values of Ref and GetAtt as far as they are known. A reference that nothing
    answers is absent, and gets its last word as value.
    """
    template = _with_unknown(template)
    if "{{resolve:" not in repr((template.resources, template.outputs, template.parameters)):
        return template
    resolved = [_resolved(template, member, scope) for member in template.resources.values()]
    resolved += [_resolved(template, member, scope) for member in template.outputs.values()]
    own = _own_values(template, scope)
    values, parts = dict(template.dynamic), list(template.parts)
    for reference in dynamic_references(resolved):
        if reference.text in values:
            continue
        value = own.get((reference.service.removesuffix("-secure"), reference.name))
        value = await _stored(reference, clients) if value is None else value
        answer = None if value is None else reference.value_in(value)
        if answer is None:
            answer = reference.placeholder
            parts.append(
                Part(
                    Class.ABSENT, reference.text,
                    detail=f"it is {answer} here (give it with "
                    f"--parameter {reference.option}=VALUE)",
                )
            )  # fmt: skip
        values[reference.text] = answer
    return replace(template, dynamic=values, parts=tuple(parts))


def _with_unknown(template: Template) -> Template:
    parts = list(template.parts)
    for stored in template.unknown:
        part = Part(Class.ABSENT, f"{{{{{stored.option}}}}}", detail=str(stored))
        parts += [] if part in parts else [part]
    return replace(template, parts=tuple(parts))


def _resolved(template: Template, value: Any, scope: Scope) -> Any:
    try:
        return template.resolve(value, scope)
    except TemplateError:  # It is reported when it is needed.
        return None


def _own_values(template: Template, scope: Scope) -> dict[tuple[str, str], str]:
    """Returns the values of parameters and secrets that the template itself makes, by name."""
    found: dict[tuple[str, str], str] = {}
    for kind, service, key in (
        ("AWS::SSM::Parameter", "ssm", "Value"),
        ("AWS::SecretsManager::Secret", "secretsmanager", "SecretString"),
    ):
        for properties in template.of_type(kind).values():
            made = _resolved(template, properties, scope) or {}
            if isinstance(made.get("Name"), str) and isinstance(made.get(key), str):
                found[service, made["Name"]] = made[key]
    return found


async def _stored(reference: DynamicReference, clients: Clients) -> str | None:
    """Returns the value in the emulator, or None."""
    try:
        if reference.service == "secretsmanager":
            reply = await clients.call(
                "secretsmanager", "get_secret_value", SecretId=reference.name
            )
            return str(reply["SecretString"])
        reply = await clients.call("ssm", "get_parameter", Name=reference.name, WithDecryption=True)
        return str(reply["Parameter"]["Value"])
    except (ClientError, BotoCoreError, KeyError):
        return None
