"""Endpoints equal botocore's, and follow the variables that every SDK reads."""

import itertools

import boto3
import pytest
from botocore.config import Config
from mayfly.aws.endpoints import endpoint, region
from mayfly.core.errors import ConfigError

REGIONS = (
    "us-east-1", "eu-central-1", "ap-southeast-7", "il-central-1", "mx-central-1", "cn-north-1",
    "cn-northwest-1", "us-gov-west-1", "us-gov-east-1",
)  # fmt: skip
SERVICES = ("dynamodb", "dynamodbstreams", "sqs", "ssm")


@pytest.mark.parametrize("service", SERVICES)
def test_endpoint_of_a_region_is_that_of_botocore(service: str) -> None:
    for where, is_fips, is_dual in itertools.product(REGIONS, (False, True), (False, True)):
        client = boto3.client(  # noqa: TID251  # the resolver that is compared
            service,  # type: ignore[call-overload]  # one of four
            region_name=where,
            config=Config(use_fips_endpoint=is_fips, use_dualstack_endpoint=is_dual),
        )
        model = client.meta.service_model.operation_model(
            client.meta.service_model.operation_names[0]
        )
        theirs = client._ruleset_resolver.construct_endpoint(model, {}, {}).url
        env = {
            "AWS_REGION": where,
            "AWS_USE_FIPS_ENDPOINT": str(is_fips).lower(),
            "AWS_USE_DUALSTACK_ENDPOINT": str(is_dual).lower(),
        }
        assert endpoint(service, env) == theirs


def test_configured_endpoint_comes_first_and_that_of_the_service_before_the_general_one() -> None:
    env = {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://all:1/"}
    assert endpoint("sqs", env) == "http://all:1"
    env["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] = "http://streams:2"
    assert endpoint("dynamodbstreams", env) == "http://streams:2"
    assert endpoint("dynamodb", env) == "http://all:1"
    env["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true"
    assert endpoint("dynamodbstreams", env) == "https://streams.dynamodb.us-east-1.amazonaws.com"


@pytest.mark.parametrize("name", ["", "us east", "a/b", "evil.example#", "us-iso-east-1", "xx-y-1"])
def test_region_that_is_not_known_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="AWS_REGION"):
        endpoint("sqs", {"AWS_REGION": name})


def test_region_may_be_the_default_region() -> None:
    assert region({"AWS_DEFAULT_REGION": "eu-west-1"}) == "eu-west-1"
    assert region({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-2"}) == "eu-west-2"
