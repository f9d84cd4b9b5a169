"""The page of `stock` with every trick that is known to make it start faster.

It turns the garbage collector off during init, and freezes the objects of init afterwards. botocore
reads a folder with this service's data only, and does not check requests. A read in init opens the
connection and loads what botocore loads late. The benchmark gives this function a bundle with
Amazon's roots only.
"""

import gc

gc.disable()

import os

import boto3
import botocore.session
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response, content_types
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.loaders import Loader

logger = Logger()
metrics = Metrics(namespace="Bench")
app = APIGatewayHttpResolver()
session = botocore.session.get_session()
session.register_component(
    "data_loader",
    Loader(
        extra_search_paths=[os.environ["BENCH_BOTOCORE_DATA"]], include_default_search_paths=False
    ),
)
dynamodb = boto3.Session(botocore_session=session).client(
    "dynamodb", config=Config(parameter_validation=False, tcp_keepalive=True)
)
KEY = {"pk": {"S": "default/hits"}, "sk": {"S": "shard/0"}}
dynamodb.get_item(TableName=os.environ["COUNTERS_TABLE"], Key=KEY)


@app.get("/")
def hello() -> Response:
    answer = dynamodb.update_item(
        TableName=os.environ["COUNTERS_TABLE"],
        Key=KEY,
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


gc.freeze()
gc.enable()
