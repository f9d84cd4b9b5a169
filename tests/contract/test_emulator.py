"""The emulator before it serves: parts that run code are removed, and the stack is described."""

import subprocess
import sys

from mayfly_local.account import stack_id
from mayfly_local.emulator.stacks import RunningStack
from mayfly_testing.stack import ROOT

PROGRAM = """
from ministack.services.cloudformation import handlers, provisioners
from mayfly_local.emulator import preparation as emulator
from mayfly_local.application.supported import STATE

emulator._leave_out_what_runs_code()
unsupported = set(provisioners._RESOURCE_HANDLERS) - set(STATE)
assert not unsupported, unsupported
for name in ("create", "update", "delete"):
    try:
        getattr(provisioners, f"_custom_resource_{name}")("Custom::Any", {}, "stack")
    except ValueError as refused:
        assert "are not supported locally" in str(refused)
    else:
        raise SystemExit(f"a custom resource would {name}")
for name in ("CreateStack", "UpdateStack", "DeleteStack", "CreateChangeSet", "ExecuteChangeSet"):
    status, _, body = handlers._ACTION_HANDLERS[name]({})
    assert (status, b"only mayfly up creates stacks" in body) == (403, True), name
print("refused")
"""


def test_no_resource_that_runs_code_can_be_made() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "refused\n", done.stderr


def test_stack_without_state_is_described() -> None:
    times = iter(("2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"))
    stack = RunningStack(lambda: next(times))
    output = {"OutputKey": "A", "OutputValue": "a"}
    resources = {"F": ["AWS::Lambda::Function", "F"]}
    stack.set({"name": "app", "text": "t", "outputs": [output], "resources": resources})
    record = stack.record(None)
    assert (record["StackName"], record["StackId"]) == ("app", stack_id("app"))
    assert (record["StackStatus"], record["Outputs"]) == ("CREATE_COMPLETE", [output])
    assert record["_resources"]["F"]["PhysicalResourceId"] == "F"
    assert record["CreationTime"] == "2026-01-01T00:00:00.000Z"
    assert stack.record(None) == record
