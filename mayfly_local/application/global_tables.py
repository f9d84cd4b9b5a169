"""Global tables of DynamoDB: on one machine, each is a table of its own region.

Page aws-resource-dynamodb-globaltable of
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
"""

from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.account import REGION
from mayfly_local.application.classes import Class, Part

__all__ = ["as_tables"]

_GLOBAL: Final = "AWS::DynamoDB::GlobalTable"
#: Properties of a replica that a table has itself.
_OF_THE_REPLICA: Final = (
    "ContributorInsightsSpecification", "DeletionProtectionEnabled", "KinesisStreamSpecification",
    "PointInTimeRecoverySpecification", "ResourcePolicy", "TableClass", "Tags",
)  # fmt: skip
#: Properties about throughput, which a table here does not limit, and about other regions.
_WITHOUT_EFFECT: Final = {
    "BillingMode", "GlobalTableWitnesses", "MultiRegionConsistency", "Replicas",
    "WriteOnDemandThroughputSettings", "WriteProvisionedThroughputSettings",
}  # fmt: skip
_OF_AN_INDEX: Final = ("IndexName", "KeySchema", "Projection")


def as_tables(template: dict[str, Any]) -> list[Part]:
    """Replaces each global table of a template by the table that its replica here is.

    Returns a part for each that has replicas in other regions.
    """
    parts = []
    for name, resource in template["Resources"].items():
        if resource["Type"] != _GLOBAL:
            continue
        properties = resource.get("Properties") or {}
        replicas = properties.get("Replicas")
        known = [each for each in replicas if isinstance(each, dict)] if replicas else []
        resource["Type"] = "AWS::DynamoDB::Table"
        resource["Properties"] = _table(properties, known)
        if len(known) > 1:
            detail = f"{len(known)} replicas, which are one table here"
            parts.append(Part(Class.ACCEPTED, name, detail=detail))
    return parts


def _table(properties: Mapping[str, Any], replicas: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the properties of the table: those of the replica in this region, or the first."""
    here = next((each for each in replicas if _is_here(each)), (replicas or [{}])[0])
    table = {key: value for key, value in properties.items() if key not in _WITHOUT_EFFECT}
    table |= {key: here[key] for key in _OF_THE_REPLICA if key in here}
    table["BillingMode"] = "PAY_PER_REQUEST"
    indexes = table.get("GlobalSecondaryIndexes")
    if isinstance(indexes, list):
        table["GlobalSecondaryIndexes"] = [
            {key: index[key] for key in _OF_AN_INDEX if key in index} for index in indexes
        ]
    return table


def _is_here(replica: Mapping[str, Any]) -> bool:
    return replica.get("Region") in (REGION, {"Ref": "AWS::Region"})
