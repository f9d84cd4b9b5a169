"""The parts of CloudFormation that run here: resource types, and the properties of each.

A property is either implemented locally, or listed because it changes nothing on a laptop. Anything
else is an error at start, so that nothing is ignored silently.
"""

from typing import Any, Final

__all__ = ["COMPUTE", "STATE", "unsupported"]

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
        "BucketEncryption", "BucketName", "CorsConfiguration", "NotificationConfiguration",
        "PublicAccessBlockConfiguration", "Tags", "VersioningConfiguration",
    },
    "AWS::SNS::Topic": {
        "ContentBasedDeduplication", "DisplayName", "FifoTopic", "KmsMasterKeyId", "Subscription",
        "Tags", "TopicName",
    },
    "AWS::SNS::Subscription": {
        "DeliveryPolicy", "Endpoint", "FilterPolicy", "FilterPolicyScope", "Protocol",
        "RawMessageDelivery", "RedrivePolicy", "Region", "SubscriptionRoleArn", "TopicArn",
    },
    "AWS::Events::EventBus": {"Description", "Name", "Policy", "Tags"},
    "AWS::Events::Rule": {
        "Description", "EventBusName", "EventPattern", "Name", "RoleArn", "ScheduleExpression",
        "State", "Tags", "Targets",
    },
}  # fmt: skip

#: Resources that this runtime implements itself.
COMPUTE: Final = {
    "AWS::Lambda::Function": {
        "Architectures", "Code", "DeadLetterConfig", "Description", "Environment", "EphemeralStorage", "FunctionName",
        "Handler", "Layers",
        "LoggingConfig", "MemorySize", "PackageType", "ReservedConcurrentExecutions", "Role",
        "Runtime", "Tags", "Timeout",
        "TracingConfig",
    },
    "AWS::Lambda::EventInvokeConfig": {
        "DestinationConfig", "FunctionName", "MaximumEventAgeInSeconds", "MaximumRetryAttempts",
        "Qualifier",
    },
    "AWS::Lambda::Alias": {
        "Description", "FunctionName", "FunctionVersion", "Name", "ProvisionedConcurrencyConfig",
        "RoutingConfig",
    },
    "AWS::Lambda::Version": {
        "CodeSha256", "Description", "FunctionName", "ProvisionedConcurrencyConfig",
    },
    "AWS::Lambda::LayerVersion": {
        "CompatibleArchitectures", "CompatibleRuntimes", "Content", "Description", "LayerName",
        "LicenseInfo",
    },
    "AWS::Lambda::EventSourceMapping": {
        "BatchSize", "BisectBatchOnFunctionError", "DestinationConfig", "Enabled", "EventSourceArn",
        "FilterCriteria",
        "FunctionName", "FunctionResponseTypes", "MaximumBatchingWindowInSeconds",
        "MaximumRecordAgeInSeconds",
        "MaximumRetryAttempts", "ScalingConfig", "StartingPosition", "Tags",
    },
    "AWS::ApiGatewayV2::Api": {"Body", "CorsConfiguration", "Description", "FailOnWarnings", "Name",
    "ProtocolType", "Tags"},
    "AWS::ApiGatewayV2::Stage": {
        "AccessLogSettings", "ApiId", "AutoDeploy", "DefaultRouteSettings", "Description",
        "RouteSettings", "StageName",
        "StageVariables", "Tags",
    },
    "AWS::Scheduler::Schedule": {
        "Description", "FlexibleTimeWindow", "Name", "ScheduleExpression",
        "ScheduleExpressionTimezone", "State", "Target",
    },
}  # fmt: skip

#: Resources that belong in a template and have no effect on a laptop. All their properties are
#: accepted.
WITHOUT_EFFECT: Final = {
    "AWS::CloudWatch::Alarm",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
}


def unsupported(resources: dict[str, Any]) -> list[str]:
    """Returns one sentence for each unsupported resource type or property.

    The template must be transformed already.
    """
    problems = []
    for name, resource in resources.items():
        kind = resource["Type"]
        known = STATE.get(kind) or COMPUTE.get(kind)
        if known is None:
            if kind not in WITHOUT_EFFECT:
                supported = ", ".join(sorted([*STATE, *COMPUTE]))
                problems.append(
                    f"resource {name}: the type {kind} is not supported locally (supported: "
                    f"{supported})"
                )
            continue
        problems += [
            f"resource {name}: the property {unknown} of {kind} is not supported locally"
            for unknown in sorted(set(resource.get("Properties", {})) - known)
        ]
    return problems
