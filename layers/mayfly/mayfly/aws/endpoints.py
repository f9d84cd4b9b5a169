"""Endpoints of AWS services, by region and by the variables that every SDK reads.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
https://docs.aws.amazon.com/sdkref/latest/guide/feature-endpoints.html
"""

import re
from collections.abc import Mapping
from typing import Final

from mayfly.core.errors import ConfigError

__all__ = ["endpoint", "region"]

#: Domains by the first part of a region's name: usual, and dual-stack (IPv4 and IPv6). They are
#: those of the partitions aws-cn, aws-us-gov and aws.
_PARTITIONS: Final = {
    "cn": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    **dict.fromkeys(
        ("us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"), ("amazonaws.com", "api.aws")
    ),
}
#: Regions of other partitions, which begin with the name of one above.
_ELSEWHERE: Final = ("us-iso", "eu-iso")
#: Host names by service: usual, FIPS, dual-stack, and both of these.
_HOSTS: Final = {
    "dynamodb": ("dynamodb", "dynamodb-fips", "dynamodb", "dynamodb-fips"),
    "dynamodbstreams": (
        "streams.dynamodb", "streams.dynamodb-fips", "streams-dynamodb", "streams-dynamodb-fips",
    ),
    "sqs": ("sqs", "sqs-fips", "sqs", "sqs-fips"),
    "ssm": ("ssm", "ssm-fips", "ssm", "ssm-fips"),
}  # fmt: skip
#: Names of the services in the variables AWS_ENDPOINT_URL_<name>.
_VARIABLES: Final = {
    "dynamodb": "DYNAMODB",
    "dynamodbstreams": "DYNAMODB_STREAMS",
    "sqs": "SQS",
    "ssm": "SSM",
}
#: A region becomes part of a host name, so nothing else may be in it.
_REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def region(env: Mapping[str, str]) -> str:
    """Returns the region in AWS_REGION or AWS_DEFAULT_REGION. Raises ConfigError."""
    name = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or ""
    if not _REGION.fullmatch(name):
        raise ConfigError([f"AWS_REGION must be the name of a region, and is {name!r}"])
    return name


def endpoint(service: str, env: Mapping[str, str]) -> str:
    """Returns the URL of a service, without a path. Raises ConfigError.

    A configured endpoint comes first; then AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT
    choose among those of the region.
    """
    if not _is_true(env, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        named = env.get(f"AWS_ENDPOINT_URL_{_VARIABLES[service]}") or env.get("AWS_ENDPOINT_URL")
        if named:
            return named.rstrip("/")
    where = region(env)
    is_fips, is_dual = (
        _is_true(env, "AWS_USE_FIPS_ENDPOINT"),
        _is_true(env, "AWS_USE_DUALSTACK_ENDPOINT"),
    )
    domains = _PARTITIONS.get(where.partition("-")[0])
    if domains is None or where.startswith(_ELSEWHERE):
        raise ConfigError(
            [f"AWS_REGION {where} is in a partition that this client does not know; "
            "set AWS_ENDPOINT_URL, or MAYFLY_CLIENT=boto3"]
        )  # fmt: skip
    host = _HOSTS[service][is_fips + 2 * is_dual]
    # All endpoints of these regions are FIPS endpoints already, and keep their names.
    if is_fips and not is_dual and where.startswith("us-gov-"):
        host = _HOSTS[service][0]
    return f"https://{host}.{where}.{domains[is_dual]}"


def _is_true(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").lower() == "true"
