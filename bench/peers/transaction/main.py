"""A transaction for each message: a marker that must not exist, and the effect.

Each effect counts once, but there is no status.
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

dynamodb = boto3.client("dynamodb")
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def add(record: SQSRecord) -> None:
    name = json.loads(record.body)["payload"]["name"]
    marker = {
        "TableName": os.environ["IDEMPOTENCY_TABLE"],
        "Item": {"id": {"S": record.message_id}},
        "ConditionExpression": "attribute_not_exists(id)",
    }
    effect = {
        "TableName": os.environ["COUNTERS_TABLE"],
        "Key": {"pk": {"S": f"default/{name}"}, "sk": {"S": "shard/0"}},
        "UpdateExpression": "ADD #value :by",
        "ExpressionAttributeNames": {"#value": "value"},
        "ExpressionAttributeValues": {":by": {"N": "1"}},
    }
    dynamodb.transact_write_items(TransactItems=[{"Put": marker}, {"Update": effect}])


def handler(event: dict, context: object) -> dict:
    return process_partial_response(
        event=event, record_handler=add, processor=processor, context=context
    )
