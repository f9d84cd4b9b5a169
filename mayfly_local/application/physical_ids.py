"""Values of Ref and GetAtt for resources that nothing on this machine holds.

They have the form that AWS gives them, so that code which splits an ARN or builds a name works.
Host names end in `.invalid`, which no resolver ever finds (RFC 6761, 6.4).
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.account import ACCOUNT, REGION

__all__ = ["absent_host", "name_keys", "physical_id"]

#: The part of an ARN after the account, by type; `{}` is the physical name. The first word is the
#: service of the ARN if it differs from the type's.
_ARNS: Final = {
    "AWS::ApiGateway::RestApi": ("execute-api", "{}"),
    "AWS::ApiGatewayV2::Api": ("execute-api", "{}"),
    "AWS::CertificateManager::Certificate": ("acm", "certificate/{}"),
    "AWS::CloudFront::Distribution": ("cloudfront", "distribution/{}"),
    "AWS::CloudWatch::Alarm": ("cloudwatch", "alarm:{}"),
    "AWS::Cognito::UserPool": ("cognito-idp", "userpool/{}"),
    "AWS::EFS::AccessPoint": ("elasticfilesystem", "access-point/{}"),
    "AWS::EFS::FileSystem": ("elasticfilesystem", "file-system/{}"),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": (
        "elasticloadbalancing", "loadbalancer/app/{}/50dc6c495c0c9188"),
    "AWS::ElasticLoadBalancingV2::TargetGroup": (
        "elasticloadbalancing", "targetgroup/{}/50dc6c495c0c9188"),
    "AWS::Events::Archive": ("events", "archive/{}"),
    "AWS::Events::Connection": ("events", "connection/{}/f4a5b6c7"),
    "AWS::Events::ApiDestination": ("events", "api-destination/{}/f4a5b6c7"),
    "AWS::Events::EventBus": ("events", "event-bus/{}"),
    "AWS::Events::Rule": ("events", "rule/{}"),
    "AWS::IAM::InstanceProfile": ("iam", "instance-profile/{}"),
    "AWS::IAM::ManagedPolicy": ("iam", "policy/{}"),
    "AWS::IAM::Role": ("iam", "role/{}"),
    "AWS::IAM::User": ("iam", "user/{}"),
    "AWS::KMS::Key": ("kms", "key/{}"),
    "AWS::Kinesis::Stream": ("kinesis", "stream/{}"),
    "AWS::Kinesis::StreamConsumer": ("kinesis", "stream/local/consumer/{}:1700000000"),
    "AWS::KinesisFirehose::DeliveryStream": ("firehose", "deliverystream/{}"),
    "AWS::Lambda::Alias": ("lambda", "function:{}"),
    "AWS::Lambda::Function": ("lambda", "function:{}"),
    "AWS::Lambda::LayerVersion": ("lambda", "layer:{}:1"),
    "AWS::Lambda::Version": ("lambda", "function:{}"),
    "AWS::Logs::LogGroup": ("logs", "log-group:{}:*"),
    "AWS::MSK::Cluster": ("kafka", "cluster/{}/abcd1234-0000-0000-0000-000000000000-1"),
    "AWS::OpenSearchService::Domain": ("es", "domain/{}"),
    "AWS::RDS::DBCluster": ("rds", "cluster:{}"),
    "AWS::RDS::DBInstance": ("rds", "db:{}"),
    "AWS::RDS::DBProxy": ("rds", "db-proxy:{}"),
    "AWS::S3::Bucket": ("s3", "{}"),
    "AWS::SNS::Topic": ("sns", "{}"),
    "AWS::SQS::Queue": ("sqs", "{}"),
    "AWS::SSM::Parameter": ("ssm", "parameter/{}"),
    "AWS::Scheduler::Schedule": ("scheduler", "schedule/default/{}"),
    "AWS::SecretsManager::Secret": ("secretsmanager", "secret:{}-a1b2c3"),
    "AWS::StepFunctions::Activity": ("states", "activity:{}"),
    "AWS::StepFunctions::StateMachine": ("states", "stateMachine:{}"),
    "AWS::WAFv2::WebACL": ("wafv2", "regional/webacl/{}/a1b2c3"),
}  # fmt: skip
#: The application that makes the layer of Powertools, and the name of the layer.
_POWERTOOLS: Final = "aws-lambda-powertools-python-layer"
_LAYER: Final = "AWSLambdaPowertoolsPythonV"
#: Services whose ARNs have no region, and those that have no account either.
_GLOBAL: Final = {"cloudfront", "iam", "route53", "s3"}
#: Types whose Ref is an ARN.
_REF_IS_ARN: Final = {
    "AWS::CertificateManager::Certificate", "AWS::CloudFormation::Stack",
    "AWS::ElasticLoadBalancingV2::Listener", "AWS::ElasticLoadBalancingV2::LoadBalancer",
    "AWS::ElasticLoadBalancingV2::TargetGroup", "AWS::IAM::ManagedPolicy",
    "AWS::Kinesis::StreamConsumer", "AWS::Lambda::Alias", "AWS::Lambda::LayerVersion",
    "AWS::Lambda::Version", "AWS::MSK::Cluster", "AWS::SNS::Topic",
    "AWS::SecretsManager::Secret", "AWS::StepFunctions::Activity",
    "AWS::StepFunctions::StateMachine",
}  # fmt: skip
#: Prefixes of ids that AWS generates; the others are names.
_PREFIXES: Final = {
    "AWS::Cognito::IdentityPool": f"{REGION}:",
    "AWS::Cognito::UserPool": f"{REGION}_",
    "AWS::EC2::InternetGateway": "igw-",
    "AWS::EC2::NatGateway": "nat-",
    "AWS::EC2::RouteTable": "rtb-",
    "AWS::EC2::SecurityGroup": "sg-",
    "AWS::EC2::Subnet": "subnet-",
    "AWS::EC2::VPC": "vpc-",
    "AWS::EC2::VPCEndpoint": "vpce-",
    "AWS::EFS::AccessPoint": "fsap-",
    "AWS::EFS::FileSystem": "fs-",
}
#: Types of ids that AWS generates, and their lengths.
_IDS: Final = {
    "AWS::ApiGateway::RestApi": 10, "AWS::ApiGatewayV2::Api": 10,
    "AWS::Cognito::UserPoolClient": 26,
}  # fmt: skip
#: Attributes that are lists.
_LISTS: Final = {
    "CidrBlockAssociations", "DnsEntries", "Ipv6CidrBlocks", "NameServers", "NetworkInterfaceIds",
}  # fmt: skip
#: Ends of attributes that are the addresses of something.
_HOSTS: Final = ("Address", "Domain", "DomainName", "Endpoint", "Host")


def physical_id(
    stack: str, name: str, kind: str, properties: Mapping[str, Any], attribute: str | None
) -> str | list[str]:
    """Returns the value of `Ref` (`attribute` None) or of an attribute of a resource.

    A name that the template gives is used if it is a plain text.
    """
    own = _own_name(stack, name, kind, properties)
    arn = _arn(kind, own)
    if attribute is None:
        return arn if kind in _REF_IS_ARN else own
    if (known := _of_the_type(name, kind, own, properties, attribute)) is not None:
        return known
    last = attribute.rpartition(".")[2]
    if last in _LISTS:
        # Entries of DNS are a hosted zone and a host.
        return [f"Z0ABCDEFGHIJKLMNOPQR:{absent_host(name)}" if "Dns" in last else own]
    if last == "SecretArn":  # of a secret that a database makes itself
        return _arn("AWS::SecretsManager::Secret", own)
    if last.lower().endswith("arn"):
        return arn
    if last.endswith("FullName"):  # of a load balancer or a target group
        return arn.rpartition(":")[2].removeprefix("loadbalancer/")
    if last.endswith(("URL", "Url", "Uri")):
        return f"https://{absent_host(name)}"
    if last.endswith(_HOSTS):
        return absent_host(name)
    if last == "Port":
        return "0"
    return own if last in ("Name", "Id", kind.rpartition("::")[2] + "Id") else f"{own}-{last}"


def _of_the_type(
    name: str, kind: str, own: str, properties: Mapping[str, Any], attribute: str
) -> str | None:
    """Returns an attribute whose form its type tells, None if it has a usual form.

    The name of an output tells its form if the stack's template is not on this machine.
    """
    if kind == "AWS::CloudFormation::Stack":
        output = attribute.lower()
        if output.endswith(("layerarn", "layerversionarn")):
            return _arn("AWS::Lambda::LayerVersion", _layer_of(name, properties))
        return _arn("AWS::Lambda::Function", own) if output.endswith("functionarn") else None
    if (kind, attribute) == ("AWS::Cognito::UserPool", "ProviderName"):
        return f"cognito-idp.{REGION}.amazonaws.com/{own}"
    return None


def _layer_of(name: str, properties: Mapping[str, Any]) -> str:
    """Returns the name of the layer that an application of AWS's repository makes.

    That of Powertools has the major version in its name, or in its semantic version.
    https://docs.powertools.aws.dev/lambda/python/2.43.1/#sar
    """
    location = properties.get("TemplateURL")
    location = location if isinstance(location, dict) else {}
    application = str(location.get("ApplicationId", "")).rpartition("/")[2]
    if not application.startswith(_POWERTOOLS):
        return application or name
    in_name = re.search(r"-v(\d+)(-|$)", application)
    version = in_name[1] if in_name else str(location.get("SemanticVersion", "3")).split(".")[0]
    return "AWSLambdaPowertoolsPython" if version == "1" else f"{_LAYER}{version}"


def absent_host(name: str) -> str:
    """Returns the host name of a resource that is absent."""
    return f"{name.lower()}.absent.invalid"


def name_keys(kind: str) -> tuple[str, ...]:
    """Returns the properties that may give a name to a resource of a type."""
    last = kind.rpartition("::")[2]
    own = {
        "DomainName": ("DomainName",), "LayerVersion": ("LayerName",),
        "UserPoolDomain": ("Domain",),
    }.get(last, ())  # fmt: skip
    return (*own, "Name", f"{last}Name", f"{last}Identifier")


def _own_name(stack: str, name: str, kind: str, properties: Mapping[str, Any]) -> str:
    given = next(
        (properties[key] for key in name_keys(kind) if isinstance(properties.get(key), str)),
        None,
    )
    digest = hashlib.sha256(f"{stack} {name}".encode()).hexdigest()
    if kind in _PREFIXES:
        return _PREFIXES[kind] + digest[: 17 if _PREFIXES[kind].endswith("-") else 9]
    if kind in _IDS:
        return digest[: _IDS[kind]]
    return str(given).lstrip("/") if given else f"{stack}-{name}-{digest[:12].upper()}"


def _arn(kind: str, own: str) -> str:
    _, _, rest = kind.partition("::")
    service, _, last = rest.partition("::")
    service, form = _ARNS.get(kind, (service.lower(), f"{last.lower()}/{{}}"))
    region = "" if service in _GLOBAL else REGION
    account = "" if service == "s3" else ACCOUNT
    return f"arn:aws:{service}:{region}:{account}:{form.format(own)}"
