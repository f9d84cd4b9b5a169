"""The control: one effect per message, made idempotent by the recipe of Powertools for SQS batches.

https://docs.aws.amazon.com/powertools/python/latest/utilities/idempotency/
https://docs.aws.amazon.com/powertools/python/latest/utilities/batch/
"""

import json
import os

import boto3
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.typing import LambdaContext

dynamodb = boto3.client("dynamodb")
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
persistence = DynamoDBPersistenceLayer(
    table_name=os.environ["IDEMPOTENCY_TABLE"], boto3_client=dynamodb
)
config = IdempotencyConfig(event_key_jmespath="messageId")


@idempotent_function(data_keyword_argument="record", config=config, persistence_store=persistence)
def add(record: SQSRecord) -> dict[str, bool]:
    payload = json.loads(record.body)["payload"]
    dynamodb.update_item(
        TableName=os.environ["COUNTERS_TABLE"],
        Key={"pk": {"S": f"default/{payload['name']}"}, "sk": {"S": "shard/0"}},
        UpdateExpression="ADD #value :by",
        ExpressionAttributeNames={"#value": "value"},
        ExpressionAttributeValues={":by": {"N": "1"}},
    )
    return {"ok": True}


def handler(event: dict, context: LambdaContext) -> dict:
    config.register_lambda_context(context)
    return process_partial_response(
        event=event,
        record_handler=lambda record: add(record=record),
        processor=processor,
        context=context,
    )
