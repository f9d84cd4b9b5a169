"""The store of sessions on moto, for the process of a framework's tests."""

import os

from mayfly import resources
from mayfly.sessions import SessionStore
from moto import mock_aws

__all__ = ["make_store"]


def make_store() -> SessionStore:
    """Returns a store, after it has replaced AWS by moto in this process."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
    os.environ.update(keys, AWS_DEFAULT_REGION="us-east-1")
    mock_aws().start()
    resources.client("dynamodb").create_table(
        TableName="sessions",
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")
        ],
        BillingMode="PAY_PER_REQUEST",
    )  # fmt: skip
    return resources.session_store({"SESSIONS_TABLE": "sessions", "SUBJECT_KEY": "k" * 32})
