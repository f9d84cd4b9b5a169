"""The check of a request's body against the model of its method.

Page api-gateway-method-request-validation of
https://docs.aws.amazon.com/apigateway/latest/developerguide/
"""

import json
from typing import Any

__all__ = ["body_problem"]


def body_problem(body: bytes, schema: dict[str, Any]) -> str | None:
    """Returns why a body does not fit a JSON Schema (draft 4), or None if it fits."""
    from jsonschema import Draft4Validator
    from jsonschema.exceptions import best_match

    try:
        value = json.loads(body)
    except ValueError as problem:
        return f"the body is not JSON: {problem}"
    error = best_match(Draft4Validator(schema).iter_errors(value))
    return None if error is None else f"{error.json_path}: {error.message}"
