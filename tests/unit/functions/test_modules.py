"""Imports of a function's process: neither boto3, nor parts of Powertools that it does not use."""

import json
import os
import subprocess
import sys

import pytest

from mayfly_testing.stack import ROOT

FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/main.py"))
VARIABLES = {
    "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b", "COUNTERS_TABLE": "c", "DEFAULT_TENANT": "default",
    "ENDPOINTS_TABLE": "e", "IMPORTS_BUCKET": "b", "JOBS_QUEUE_URL": "http://127.0.0.1/jobs",
    "JOBS_TABLE": "j", "PAGE_LIMIT": "600", "RELAY_FAILURES_ARN": "arn:aws:sqs:us-east-1:1:r",
    "RELAY_FAILURES_URL": "http://127.0.0.1/failures", "RELAY_REPORTS_BUCKET": "r",
    "SECRETS_PREFIX": "/p", "SESSIONS_TABLE": "s", "SUBJECT_KEY": "k" * 32,
    "TENANTS_TABLE": "t", "TENANT_LIMIT": "0", "UPLOADS_DEAD_LETTERS_ARN": "arn:dead",
    "WEBHOOKS_QUEUE_URL": "http://127.0.0.1/webhooks",
    "WEBHOOK_PAUSES": "5,300", "MAYFLY_CLIENT": "lean",
}  # fmt: skip
#: Powertools imports the bare package, to find out whether it can add a header to boto3's requests.
ALLOWED = {"botocore"}
#: These know the errors of S3's client. The client itself is made when a job first reads a file.
ERRORS = ("botocore.exceptions", "botocore.vendored")
OF_IMPORTS = ("run_jobs", "start_imports")
#: Powertools imports asyncio for batches, also for those without coroutines.
OF_BATCHES = ("bury_jobs", "deliver_webhooks", "run_jobs", "start_imports")
UNUSED = {
    "asyncio",
    "aws_lambda_powertools.event_handler.appsync",
    "aws_lambda_powertools.event_handler.bedrock_agent",
    "aws_lambda_powertools.utilities.data_classes.code_pipeline_job_event",
    "aws_lambda_powertools.utilities.idempotency.persistence.dynamodb",
}
AWS = ("boto3", "botocore", "s3transfer")


def modules(code: str) -> set[str]:
    """Runs code as a function's process would, and returns the modules that it imports."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "functions"), **VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_starts_without_what_it_does_not_use(function: str) -> None:
    names = modules(f"import {function}.main")
    of_aws = {name for name in names if name.split(".")[0] in AWS}
    if function in OF_IMPORTS:
        of_aws = {name for name in of_aws if not name.startswith(ERRORS)}
    assert of_aws <= ALLOWED
    assert names & UNUSED == ({"asyncio"} if function in OF_BATCHES else set())


def test_task_may_use_powertools_own_layer_next_to_a_worker() -> None:
    use = (
        "import run_jobs.main\n"
        "from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer as L\n"
        "from aws_lambda_powertools.utilities.idempotency import idempotent_function as i\n"
        "from mayfly.jobs.worker.powertools import BasePersistenceLayer, idempotent_function\n"
        "assert issubclass(L, BasePersistenceLayer)\n"
        "assert i is idempotent_function"
    )
    assert "boto3" in modules(use)


def test_worker_may_come_after_powertools_own_package() -> None:
    use = (
        "import aws_lambda_powertools.utilities.idempotency as package\n"
        "import run_jobs.main\n"
        "package.idempotent"
    )
    assert "boto3" in modules(use)
