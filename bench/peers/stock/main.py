"""The page as Powertools' documentation shows one: resolver, logger, metrics, boto3's client.

https://docs.aws.amazon.com/powertools/python/latest/core/event_handler/api_gateway/
"""

import os

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response, content_types
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger()
metrics = Metrics(namespace="Bench")
app = APIGatewayHttpResolver()
dynamodb = boto3.client("dynamodb")


@app.get("/")
def hello() -> Response:
    answer = dynamodb.update_item(
        TableName=os.environ["COUNTERS_TABLE"],
        Key={"pk": {"S": "default/hits"}, "sk": {"S": "shard/0"}},
        UpdateExpression="ADD #value :by",
        ExpressionAttributeNames={"#value": "value"},
        ExpressionAttributeValues={":by": {"N": "1"}},
        ReturnValues="ALL_NEW",
    )
    metrics.add_metric(name="Hits", unit=MetricUnit.Count, value=1)
    hits = answer["Attributes"]["value"]["N"]
    return Response(
        status_code=200,
        content_type=content_types.TEXT_PLAIN,
        body=f"Hello World! {hits} times.",
    )


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP)
@metrics.log_metrics
def handler(event: dict, context: LambdaContext) -> dict:
    return app.resolve(event, context)
