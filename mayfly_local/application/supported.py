"""The parts of CloudFormation that run here: resource types, and the properties of each.

A type that is not listed is absent, and so is a property of a type that runs. Everything that is
accepted or absent is named at start, so that nothing is ignored silently.
"""

from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.application.classes import Class, Part

__all__ = ["ACCEPTED", "COMPUTE", "STATE", "classify", "is_unknown_key", "is_websocket"]

#: Resources that the emulator holds; they are created through CloudFormation and then verified.
STATE: Final = {
    "AWS::DynamoDB::Table": {
        "AttributeDefinitions", "BillingMode", "DeletionProtectionEnabled",
        "GlobalSecondaryIndexes", "KeySchema",
        "LocalSecondaryIndexes", "PointInTimeRecoverySpecification", "ProvisionedThroughput",
        "SSESpecification",
        "StreamSpecification", "TableClass", "TableName", "Tags", "TimeToLiveSpecification",
    },
    "AWS::SQS::Queue": {
        "ContentBasedDeduplication", "DelaySeconds", "FifoQueue", "MaximumMessageSize",
        "MessageRetentionPeriod", "QueueName",
        "ReceiveMessageWaitTimeSeconds", "RedrivePolicy", "SqsManagedSseEnabled", "Tags",
        "VisibilityTimeout",
    },
    "AWS::S3::Bucket": {
        "BucketEncryption", "BucketName", "CorsConfiguration", "LifecycleConfiguration",
        "NotificationConfiguration", "PublicAccessBlockConfiguration", "Tags",
        "VersioningConfiguration",
    },
    "AWS::SSM::Parameter": {
        "AllowedPattern", "DataType", "Description", "Name", "Policies", "Tags", "Tier", "Type",
        "Value",
    },
    "AWS::SecretsManager::Secret": {
        "Description", "GenerateSecretString", "KmsKeyId", "Name", "SecretString", "Tags",
    },
    "AWS::SNS::Topic": {
        "ContentBasedDeduplication", "DisplayName", "FifoTopic", "KmsMasterKeyId", "Subscription",
        "Tags", "TopicName",
    },
    "AWS::SNS::Subscription": {
        "DeliveryPolicy", "Endpoint", "FilterPolicy", "FilterPolicyScope", "Protocol",
        "RawMessageDelivery", "RedrivePolicy", "Region", "SubscriptionRoleArn", "TopicArn",
    },
    "AWS::Kinesis::Stream": {
        "Name", "RetentionPeriodHours", "ShardCount", "StreamEncryption", "StreamModeDetails",
        "Tags",
    },
    "AWS::KMS::Key": {
        "Description", "Enabled", "KeySpec", "KeyUsage", "PendingWindowInDays", "Tags",
    },
    "AWS::KMS::Alias": {"AliasName", "TargetKeyId"},
    "AWS::Events::EventBus": {"Description", "Name", "Policy", "Tags"},
    "AWS::Events::Rule": {
        "Description", "EventBusName", "EventPattern", "Name", "RoleArn", "ScheduleExpression",
        "State", "Tags", "Targets",
    },
}  # fmt: skip

#: Resources that this runtime implements itself.
COMPUTE: Final = {
    "AWS::Lambda::Function": {
        "Architectures", "Code", "DeadLetterConfig", "Description", "Environment",
        "EphemeralStorage", "FunctionName", "Handler", "ImageConfig", "Layers",
        "LoggingConfig", "MemorySize", "PackageType", "ReservedConcurrentExecutions", "Role",
        "Runtime", "Tags", "Timeout",
        "TracingConfig",
    },
    "AWS::Lambda::EventInvokeConfig": {
        "DestinationConfig", "FunctionName", "MaximumEventAgeInSeconds", "MaximumRetryAttempts",
        "Qualifier",
    },
    "AWS::Lambda::LayerVersion": {
        "CompatibleArchitectures", "CompatibleRuntimes", "Content", "Description", "LayerName",
        "LicenseInfo",
    },
    "AWS::Lambda::Alias": {"Description", "FunctionName", "FunctionVersion", "Name"},
    "AWS::Lambda::Url": {"AuthType", "Cors", "InvokeMode", "Qualifier", "TargetFunctionArn"},
    "AWS::Lambda::Version": {"CodeSha256", "Description", "FunctionName"},
    "AWS::Lambda::EventSourceMapping": {
        "BatchSize", "BisectBatchOnFunctionError", "DestinationConfig", "Enabled", "EventSourceArn",
        "FilterCriteria",
        "FunctionName", "FunctionResponseTypes", "MaximumBatchingWindowInSeconds",
        "MaximumRecordAgeInSeconds",
        "MaximumRetryAttempts", "ScalingConfig", "StartingPosition", "Tags",
    },
    "AWS::ApiGateway::ApiKey": {
        "Description", "Enabled", "GenerateDistinctId", "Name", "StageKeys", "Tags", "Value",
    },
    "AWS::ApiGateway::Authorizer": {
        "AuthType", "AuthorizerCredentials", "AuthorizerResultTtlInSeconds", "AuthorizerUri",
        "IdentitySource", "IdentityValidationExpression", "Name", "ProviderARNs", "RestApiId",
        "Type",
    },
    "AWS::ApiGateway::Deployment": {
        "Description", "RestApiId", "StageDescription", "StageName",
    },
    "AWS::ApiGateway::GatewayResponse": {
        "ResponseParameters", "ResponseTemplates", "ResponseType", "RestApiId", "StatusCode",
    },
    "AWS::ApiGateway::Method": {
        "ApiKeyRequired", "AuthorizationScopes", "AuthorizationType", "AuthorizerId", "HttpMethod",
        "Integration", "MethodResponses", "OperationName", "RequestModels", "RequestParameters",
        "RequestValidatorId", "ResourceId", "RestApiId",
    },
    "AWS::ApiGateway::Model": {"ContentType", "Description", "Name", "RestApiId", "Schema"},
    "AWS::ApiGateway::RequestValidator": {
        "Name", "RestApiId", "ValidateRequestBody", "ValidateRequestParameters",
    },
    "AWS::ApiGateway::Resource": {"ParentId", "PathPart", "RestApiId"},
    "AWS::ApiGateway::RestApi": {
        "ApiKeySourceType", "BinaryMediaTypes", "Body", "Description", "FailOnWarnings", "Name",
        "Parameters", "Policy", "Tags",
    },
    "AWS::ApiGateway::Stage": {
        "DeploymentId", "Description", "RestApiId", "StageName", "Tags", "Variables",
    },
    "AWS::ApiGateway::UsagePlan": {"ApiStages", "Description", "Tags", "UsagePlanName"},
    "AWS::ApiGateway::UsagePlanKey": {"KeyId", "KeyType", "UsagePlanId"},
    "AWS::ApiGatewayV2::Api": {"Body", "CorsConfiguration", "Description", "FailOnWarnings", "Name",
    "ProtocolType", "RouteKey", "Tags", "Target"},
    "AWS::ApiGatewayV2::Authorizer": {
        "ApiId", "AuthorizerCredentialsArn", "AuthorizerPayloadFormatVersion",
        "AuthorizerResultTtlInSeconds", "AuthorizerType", "AuthorizerUri", "EnableSimpleResponses",
        "IdentitySource", "JwtConfiguration", "Name",
    },
    "AWS::ApiGatewayV2::Integration": {
        "ApiId", "CredentialsArn", "Description", "IntegrationMethod", "IntegrationType",
        "IntegrationUri", "PayloadFormatVersion", "TimeoutInMillis",
    },
    "AWS::ApiGatewayV2::Route": {
        "ApiId", "AuthorizationScopes", "AuthorizationType", "AuthorizerId", "OperationName",
        "RouteKey", "Target",
    },
    "AWS::ApiGatewayV2::Stage": {
        "AccessLogSettings", "ApiId", "AutoDeploy", "DefaultRouteSettings", "Description",
        "RouteSettings", "StageName",
        "StageVariables", "Tags",
    },
    "AWS::Scheduler::Schedule": {
        "Description", "EndDate", "StartDate", "FlexibleTimeWindow", "Name", "ScheduleExpression",
        "ScheduleExpressionTimezone", "State", "Target",
    },
}  # fmt: skip

#: Properties of the types above that have no effect on one machine. Any other property of them is
#: absent.
_WITHOUT_EFFECT: Final = {
    "AWS::ApiGateway::ApiKey": {"CustomerId"},
    "AWS::ApiGateway::Deployment": {"DeploymentCanarySettings"},
    "AWS::ApiGateway::RestApi": {
        "DisableExecuteApiEndpoint", "EndpointAccessMode", "EndpointConfiguration",
        "MinimumCompressionSize", "Mode", "SecurityPolicy",
    },
    "AWS::ApiGateway::Stage": {
        "AccessLogSetting", "CacheClusterEnabled", "CacheClusterSize", "CanarySetting",
        "ClientCertificateId", "DocumentationVersion", "MethodSettings", "TracingEnabled",
    },
    "AWS::ApiGateway::UsagePlan": {"Quota", "Throttle"},
    "AWS::ApiGatewayV2::Api": {
        "ApiKeySelectionExpression", "DisableExecuteApiEndpoint", "IpAddressType", "Version",
    },
    "AWS::ApiGatewayV2::Stage": {"ClientCertificateId", "DeploymentId"},
    "AWS::DynamoDB::Table": {
        "ContributorInsightsSpecification", "OnDemandThroughput", "ResourcePolicy",
        "WarmThroughput",
    },
    "AWS::Lambda::Alias": {"ProvisionedConcurrencyConfig", "RoutingConfig"},
    "AWS::Lambda::Version": {"ProvisionedConcurrencyConfig", "RuntimePolicy"},
    "AWS::Lambda::EventSourceMapping": {
        "KmsKeyArn", "LoggingConfig", "MetricsConfig", "ParallelizationFactor",
        "ProvisionedPollerConfig",
    },
    "AWS::Lambda::Function": {
        "CodeSigningConfigArn", "KmsKeyArn", "RecursiveLoop", "RuntimeManagementConfig",
        "SnapStart", "VpcConfig",
    },
    "AWS::KMS::Key": {
        "BypassPolicyLockoutSafetyCheck", "EnableKeyRotation", "KeyPolicy", "MultiRegion", "Origin",
        "RotationPeriodInDays",
    },
    "AWS::S3::Bucket": {
        "AccelerateConfiguration", "AccessControl", "AnalyticsConfigurations",
        "IntelligentTieringConfigurations", "InventoryConfigurations", "LifecycleConfiguration",
        "LoggingConfiguration", "MetricsConfigurations", "OwnershipControls",
    },
    "AWS::SQS::Queue": {
        "FifoThroughputLimit", "KmsDataKeyReusePeriodSeconds", "KmsMasterKeyId",
        "RedriveAllowPolicy",
    },
    "AWS::Scheduler::Schedule": {"GroupName", "KmsKeyArn"},
    "AWS::SecretsManager::Secret": {"ReplicaRegions", "Type"},
}  # fmt: skip

#: Resources that belong in a template and have no effect on one machine. All their properties are
#: accepted.
ACCEPTED: Final = {
    "AWS::ApiGateway::Account",
    "AWS::ApiGateway::BasePathMapping",
    "AWS::ApiGateway::ClientCertificate",
    "AWS::ApiGateway::DocumentationPart",
    "AWS::ApiGateway::DocumentationVersion",
    "AWS::ApiGateway::DomainName",
    "AWS::ApiGatewayV2::ApiMapping",
    "AWS::ApiGatewayV2::Deployment",
    "AWS::ApiGatewayV2::DomainName",
    # These three are for WebSocket APIs only, which are absent.
    "AWS::ApiGatewayV2::IntegrationResponse",
    "AWS::ApiGatewayV2::Model",
    "AWS::ApiGatewayV2::RouteResponse",
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::ApplicationInsights::Application",
    "AWS::Backup::BackupPlan",
    "AWS::Backup::BackupSelection",
    "AWS::Backup::BackupVault",
    "AWS::Budgets::Budget",
    "AWS::CE::AnomalyMonitor",
    "AWS::CE::AnomalySubscription",
    "AWS::CertificateManager::Certificate",
    "AWS::CloudFormation::WaitConditionHandle",
    "AWS::CloudFront::CloudFrontOriginAccessIdentity",
    "AWS::CloudFront::OriginAccessControl",
    "AWS::CloudTrail::Trail",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::AnomalyDetector",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::CloudWatch::MetricStream",
    "AWS::CodeDeploy::Application",
    "AWS::CodeDeploy::DeploymentGroup",
    "AWS::EC2::DHCPOptions",
    "AWS::EC2::EIP",
    "AWS::EC2::EgressOnlyInternetGateway",
    "AWS::EC2::FlowLog",
    "AWS::EC2::InternetGateway",
    "AWS::EC2::NatGateway",
    "AWS::EC2::NetworkAcl",
    "AWS::EC2::NetworkAclEntry",
    "AWS::EC2::Route",
    "AWS::EC2::RouteTable",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::Subnet",
    "AWS::EC2::SubnetCidrBlock",
    "AWS::EC2::SubnetNetworkAclAssociation",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPC",
    "AWS::EC2::VPCCidrBlock",
    "AWS::EC2::VPCEndpoint",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::Events::EventBusPolicy",
    "AWS::IAM::AccessKey",
    "AWS::IAM::Group",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::OIDCProvider",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::IAM::RolePolicy",
    "AWS::IAM::ServiceLinkedRole",
    "AWS::IAM::User",
    "AWS::IAM::UserPolicy",
    "AWS::IAM::UserToGroupAddition",
    # Its throughput has no effect: a mapping of it reads the stream.
    "AWS::Kinesis::StreamConsumer",
    "AWS::Lambda::CodeSigningConfig",
    "AWS::Lambda::LayerVersionPermission",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::Logs::LogStream",
    "AWS::Logs::MetricFilter",
    "AWS::Logs::QueryDefinition",
    "AWS::Logs::ResourcePolicy",
    "AWS::Oam::Link",
    "AWS::ResourceGroups::Group",
    "AWS::Route53::HostedZone",
    "AWS::Route53::RecordSet",
    "AWS::Route53::RecordSetGroup",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueueInlinePolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::ScheduleGroup",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::ServiceCatalogAppRegistry::Application",
    "AWS::ServiceCatalogAppRegistry::AttributeGroup",
    "AWS::ServiceCatalogAppRegistry::AttributeGroupAssociation",
    "AWS::ServiceCatalogAppRegistry::ResourceAssociation",
    "AWS::Synthetics::Canary",
    "AWS::WAFv2::IPSet",
    "AWS::WAFv2::WebACL",
    "AWS::WAFv2::WebACLAssociation",
    "AWS::XRay::Group",
    "AWS::XRay::SamplingRule",
}

#: Kinds of KMS keys that the emulator makes.
_KEY_SPECS: Final = {
    "ECC_NIST_EDWARDS25519", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1",
    "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "RSA_2048", "RSA_3072", "RSA_4096",
    "SYMMETRIC_DEFAULT",
}  # fmt: skip


def is_unknown_key(resource: Mapping[str, Any]) -> bool:
    """Returns whether a resource is a KMS key of a kind that the emulator cannot make."""
    spec = (resource.get("Properties") or {}).get("KeySpec", "SYMMETRIC_DEFAULT")
    return resource["Type"] == "AWS::KMS::Key" and isinstance(spec, str) and spec not in _KEY_SPECS


def is_websocket(resource: Mapping[str, Any]) -> bool:
    """Returns whether a resource of the type AWS::ApiGatewayV2::Api is a WebSocket API."""
    return (resource.get("Properties") or {}).get("ProtocolType") == "WEBSOCKET"


def classify(resources: Mapping[str, Any]) -> list[Part]:
    """Returns every resource with its class, and properties of running types that do not run.

    The template must be transformed already. Routes, integrations and stages of a WebSocket API
    have no effect without it.
    """
    sockets = [
        {"Ref": name}
        for name, resource in resources.items()
        if resource["Type"] == "AWS::ApiGatewayV2::Api" and is_websocket(resource)
    ]
    parts = []
    for name, resource in resources.items():
        kind, properties = resource["Type"], resource.get("Properties") or {}
        known = STATE.get(kind) or COMPUTE.get(kind)
        if {"Ref": name} in sockets:
            parts.append(Part(Class.ABSENT, name, f"{kind} (WebSocket)"))
        elif is_unknown_key(resource):
            parts.append(Part(Class.ABSENT, name, f"{kind} ({properties['KeySpec']})"))
        elif known is None:
            parts.append(Part(Class.ACCEPTED if kind in ACCEPTED else Class.ABSENT, name, kind))
        elif properties.get("ApiId") in sockets:
            parts.append(Part(Class.ACCEPTED, name, kind))
        else:
            parts.append(Part(Class.RUNS, name, kind))
            harmless = _WITHOUT_EFFECT.get(kind, set())
            for unknown in sorted(set(properties) - known):
                group = Class.ACCEPTED if unknown in harmless else Class.ABSENT
                parts.append(Part(group, name, kind, unknown))
    return parts
