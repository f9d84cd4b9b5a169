"""Secrets of the emulator, by the ARN that the policies of roles name.

The values of the template's secrets are those that AWS would give them: ministack's CloudFormation
reads a part of GenerateSecretString only, and gives an empty text to a secret without a value.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["hook_secrets", "secret_arn"]

#: Properties of GenerateSecretString that GetRandomPassword has, too.
_SWITCHES: Final = (
    "ExcludeLowercase", "ExcludeNumbers", "ExcludePunctuation", "ExcludeUppercase", "IncludeSpace",
    "RequireEachIncludedType",
)  # fmt: skip


def secret_arn(name: str) -> str | None:
    """Returns the ARN of the secret with a name, or None if there is none."""
    module = sys.modules.get("ministack.services.secretsmanager")
    if module is None:
        return None
    _, secret = module._resolve(name)
    return None if secret is None else str(secret["ARN"])


def hook_secrets() -> None:
    """Makes ministack give the values to secrets that AWS would give them."""
    from ministack.services import secretsmanager
    from ministack.services.cloudformation import provisioners

    create = provisioners._sm_secret_create
    store, update = secretsmanager._store_new_secret, secretsmanager._update_secret
    getattr(provisioners, "_sm_secret_string")  # noqa: B009 - a missing name ends the start

    def declared(properties: Mapping[str, Any]) -> str | None:
        return _declared_value(properties, secretsmanager._get_random_password)

    def created(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        made = create(logical_id, properties, stack)
        _drop_absent_value(secretsmanager._secrets[made[0]])
        return made

    def stored(name: str, *arguments: Any, **more: Any) -> tuple[str, str | None]:
        arn, version = store(name, *arguments, **more)
        secret = secretsmanager._secrets[name]
        _drop_absent_value(secret)
        return arn, version if version in secret["Versions"] else None

    def updated(request: dict[str, Any]) -> Any:
        # A template that no longer declares a value leaves the current one.
        return update({key: value for key, value in request.items() if value is not None})

    provisioners._sm_secret_string = declared
    provisioners._sm_secret_create = created  # A replacement by an update calls it.
    provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::Secret"]["create"] = created
    secretsmanager._store_new_secret = stored
    secretsmanager._update_secret = updated


def _declared_value(properties: Mapping[str, Any], random_password: Any) -> str | None:
    """Returns the value that a template declares for a secret, or None.

    `random_password` is ministack's GetRandomPassword. Raises ValueError for a GenerateSecretString
    that AWS refuses.
    Page aws-properties-secretsmanager-secret-generatesecretstring of
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
    """
    if (value := properties.get("SecretString")) is not None:
        return str(value)
    generated = properties.get("GenerateSecretString")
    if generated is None:
        return None
    status, _, body = random_password(_password_request(generated))
    reply = json.loads(body)
    if status != 200:
        raise ValueError(f"GenerateSecretString: {reply.get('message', reply)}")
    password, template = str(reply["RandomPassword"]), generated.get("SecretStringTemplate")
    key = generated.get("GenerateStringKey")
    if template is None and key is None:
        return password
    if template is None or key is None:
        raise ValueError(
            "GenerateSecretString: SecretStringTemplate and GenerateStringKey need each other"
        )
    try:
        members = json.loads(template)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        # ValueError, because the template's value is wrong, not a type in this code.
        problem = "GenerateSecretString: SecretStringTemplate is not a JSON object"
        raise ValueError(problem)  # noqa: TRY004
    return json.dumps({**members, key: password})


def _password_request(generated: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the request of GetRandomPassword; a template may write its values as texts."""
    request: dict[str, Any] = {
        name: str(generated[name]).lower() == "true" for name in _SWITCHES if name in generated
    }
    if "ExcludeCharacters" in generated:
        request["ExcludeCharacters"] = str(generated["ExcludeCharacters"])
    if "PasswordLength" in generated:
        try:
            request["PasswordLength"] = int(generated["PasswordLength"])
        except (TypeError, ValueError):
            raise ValueError(
                f"GenerateSecretString: PasswordLength is {generated['PasswordLength']!r}, "
                "which is not a number"
            ) from None
    return request


def _drop_absent_value(secret: dict[str, Any]) -> None:
    """Removes a version without a value: GetSecretValue then answers ResourceNotFoundException."""
    for version, content in list(secret["Versions"].items()):
        if content["SecretString"] is None and content["SecretBinary"] is None:
            del secret["Versions"][version]
