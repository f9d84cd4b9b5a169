"""The documented recipe, ten records at a time."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "mayfly_lab"))
from stock.main import add, config

threads = ThreadPoolExecutor(10)


def one(raw: dict) -> str | None:
    try:
        add(record=SQSRecord(raw))
    except Exception:
        return raw["messageId"]
    return None


def handler(event: dict, context: object) -> dict:
    config.register_lambda_context(context)
    failed = [message_id for message_id in threads.map(one, event["Records"]) if message_id]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
