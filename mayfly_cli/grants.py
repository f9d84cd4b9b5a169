"""Variables and permissions that a function of an application needs to use Mayfly's stores.

The actions are those of the roles of Mayfly's own functions, so there is one source of them.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from mayfly_cli.parts import Wanted, nested
from mayfly_local.application.source import parse

__all__ = ["lines"]

#: For each feature: variables by the outputs that they hold, and the function whose role has the
#: permissions on a resource.
_STORES: Final[dict[str, tuple[dict[str, str], str, str]]] = {
    "counters": ({"COUNTERS_TABLE": "CountersTableName"}, "Counters", "CountersTable"),
    "limits": ({"COUNTERS_TABLE": "CountersTableName"}, "Counters", "CountersTable"),
    "sessions": (
        {"SESSIONS_TABLE": "SessionsTableName", "SUBJECT_KEY": "SubjectKey"},
        "Sessions",
        "SessionsTable",
    ),
    "jobs": ({"JOBS_TABLE": "JobsTableName"}, "Jobs", "JobsTable"),
    "webhooks": ({"JOBS_TABLE": "JobsTableName"}, "Jobs", "JobsTable"),
    "schedules": ({"JOBS_TABLE": "JobsTableName"}, "Schedules", "JobsTable"),
}


def lines(name: str, features: Collection[str]) -> list[str]:
    """Returns the properties of a function that uses the stores of features.

    `name` is the logical id of the nested application. Files to import are uploaded to a bucket.
    """
    resources = _resources(features)
    variables: dict[str, str] = {}
    actions: dict[str, set[str]] = {}
    for feature in _STORES:
        if feature in features:
            named, function, table = _STORES[feature]
            variables |= named
            actions.setdefault(f"{name}.Outputs.{table}Arn", set()).update(
                _actions(resources[f"{function}Role"], table)
            )
    statements = [(sorted(allowed), f"!GetAtt {resource}") for resource, allowed in actions.items()]
    if "imports" in features:
        variables["IMPORTS_BUCKET"] = "ImportsBucketName"
        bucket = f"{name}.Outputs.ImportsBucketArn"
        statements.append((["s3:PutObject"], f'!Sub "${{{bucket}}}/*"'))
    text = ["Environment:", "  Variables:"]
    text += [f"    {key}: !GetAtt {name}.Outputs.{value}" for key, value in variables.items()]
    text += ["Policies:", "  - Statement:"]
    for allowed, resource in statements:
        text += [
            "      - Effect: Allow",
            f"        Action: {json.dumps(allowed)}",
            f"        Resource: {resource}",
        ]
    return text


def _resources(features: Collection[str]) -> dict[str, Any]:
    text = nested(Wanted(features, code="code", runtime="python3.13"))
    resources: dict[str, Any] = parse(Path("mayfly.yaml"), text)["Resources"]
    return resources


def _actions(role: dict[str, Any], table: str) -> list[str]:
    """Returns the actions that a role allows on the whole of a table."""
    found: list[str] = []
    for policy in role["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Resource"] == {"Fn::GetAtt": [table, "Arn"]}:
                action = statement["Action"]
                found += [action] if isinstance(action, str) else action
    return found
