"""The AWS services whose data is deployed with botocore.

A service model is a large file, and botocore has more than 400 of them. Add a service here if a
task of yours uses it often: then its version is the locked one. Clients of all other services use
the data of Lambda's own botocore; see tools/bundle/left_out.py.
"""

from typing import Final

__all__ = ["SERVICES"]

SERVICES: Final = ("dynamodb", "dynamodbstreams", "s3", "sqs", "ssm", "sts")
