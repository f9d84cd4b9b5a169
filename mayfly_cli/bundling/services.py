"""The AWS services whose data is deployed with botocore.

A service model is a large file, and botocore has more than 400 of them. Clients of all other
services use the data of Lambda's own botocore; see mayfly_cli/bundling/left_out.py. If a task uses
another service often, add it: then its version is the one of the installed botocore. In a checkout
the place is here; an application adds `--service NAME` to `mayfly bundle` in its Makefile.
"""

from typing import Final

__all__ = ["SERVICES"]

SERVICES: Final = ("dynamodb", "dynamodbstreams", "s3", "sqs", "ssm", "sts")
