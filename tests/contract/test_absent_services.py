"""Step Functions and Cognito of ministack: what is right and wrong (docs/decisions/0023).

The stack has neither. A test that begins with `test_wrong` holds a difference from AWS that keeps
its service absent: when an upgrade mends it, the test fails, and the decision is due again.
"""

import asyncio
import base64
import itertools
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from ministack.services import cognito, stepfunctions

NUMBERS = itertools.count()
ROLE = "arn:aws:iam::000000000000:role/flow"


def asked(service: Any, operation: str, **arguments: Any) -> dict[str, Any]:
    """Returns the reply of an operation, which may be an error."""
    target = "AWSStepFunctions" if service is stepfunctions else "AWSCognitoIdentityProviderService"
    headers = {"x-amz-target": f"{target}.{operation}"}
    handled = service.handle_request("POST", "/", headers, json.dumps(arguments).encode(), {})
    body: dict[str, Any] = json.loads(asyncio.run(handled)[2] or b"{}")
    return body


def machine(states: dict[str, Any], **more: Any) -> str:
    """Makes a state machine that starts at the first of its states, and returns its ARN."""
    definition = json.dumps({"StartAt": next(iter(states)), "States": states, **more})
    made = asked(
        stepfunctions, "CreateStateMachine", name=f"m-{next(NUMBERS)}", roleArn=ROLE,
        definition=definition, type="EXPRESS",
    )  # fmt: skip
    return str(made["stateMachineArn"])


def ran(states: dict[str, Any], given: Any = None, **more: Any) -> dict[str, Any]:
    """Runs a state machine to its end, and returns StartSyncExecution's reply."""
    return asked(
        stepfunctions, "StartSyncExecution", stateMachineArn=machine(states, **more),
        input=json.dumps({} if given is None else given),
    )  # fmt: skip


def output(states: dict[str, Any], given: Any = None, **more: Any) -> Any:
    reply = ran(states, given, **more)
    assert reply["status"] == "SUCCEEDED", reply
    return json.loads(reply["output"])


def test_choice_takes_the_first_rule_that_matches() -> None:
    states = {
        "Big?": {
            "Type": "Choice", "Default": "Small",
            "Choices": [{"Variable": "$.n", "NumericGreaterThan": 5, "Next": "Big"}],
        },
        "Big": {"Type": "Pass", "Result": "big", "End": True},
        "Small": {"Type": "Pass", "Result": "small", "End": True},
    }  # fmt: skip
    assert [output(states, {"n": n}) for n in (6, 5)] == ["big", "small"]


def test_parallel_and_map_return_results_in_order() -> None:
    branch = {"StartAt": "P", "States": {"P": {"Type": "Pass", "End": True}}}
    states = {
        "Both": {"Type": "Parallel", "Branches": [branch, branch], "Next": "Each"},
        "Each": {"Type": "Map", "ItemProcessor": branch, "End": True},
    }
    assert output(states, [1]) == [[1], [1]]


def test_failure_is_caught_with_its_error() -> None:
    branch = {"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "Own", "Cause": "why"}}}
    states = {
        "Try": {
            "Type": "Parallel", "Branches": [branch], "End": True,
            "Catch": [{"ErrorEquals": ["Own"], "ResultPath": "$.error", "Next": "Caught"}],
        },
        "Caught": {"Type": "Pass", "End": True},
    }  # fmt: skip
    assert output(states, {"a": 1})["error"]["Error"] == "Own"


def test_wrong_same_start_is_not_idempotent() -> None:
    """StartExecution with the name and input of a running execution is a success on AWS.

    https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
    """
    arn = machine({"W": {"Type": "Wait", "Seconds": 1, "End": True}})
    start = {"stateMachineArn": arn, "name": "same", "input": "{}"}
    assert "executionArn" in asked(stepfunctions, "StartExecution", **start)
    again = asked(stepfunctions, "StartExecution", **start)
    assert again["__type"] == "ExecutionAlreadyExists"


def test_wrong_running_execution_ends_with_the_process() -> None:
    """An execution of AWS has no process: it survives any of them."""
    arn = machine({"W": {"Type": "Wait", "Seconds": 1, "End": True}})
    started = asked(stepfunctions, "StartExecution", stateMachineArn=arn, input="{}")
    stored = stepfunctions.get_state()
    stepfunctions.load_persisted_state(stored)
    found = asked(stepfunctions, "DescribeExecution", executionArn=started["executionArn"])
    assert (found["status"], found["error"]) == ("FAILED", "States.ServiceRestart")


def test_wrong_time_of_a_whole_execution_is_not_limited() -> None:
    """`TimeoutSeconds` of a machine ends its execution with States.Timeout on AWS.

    https://docs.aws.amazon.com/step-functions/latest/dg/statemachine-structure.html
    """
    wait = {"W": {"Type": "Wait", "Seconds": 2, "End": True}}
    assert ran(wait, TimeoutSeconds=1)["status"] == "SUCCEEDED"


def test_wrong_delay_of_a_retry_has_no_maximum() -> None:
    """`MaxDelaySeconds` limits the delay of a retry on AWS.

    https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
    """
    states = {
        "Call": {
            "Type": "Task", "Resource": "arn:aws:lambda:us-east-1:000000000000:function:none",
            "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 2, "MaxAttempts": 1,
                       "MaxDelaySeconds": 1}],
            "End": True,
        }
    }  # fmt: skip
    started = time.monotonic()
    assert ran(states)["status"] == "FAILED"
    assert time.monotonic() - started > 2


def pool() -> tuple[str, str]:
    """Makes a user pool with a client and the user anna; returns the ids of pool and client."""
    made = asked(cognito, "CreateUserPool", PoolName="people")["UserPool"]["Id"]
    client = asked(
        cognito, "CreateUserPoolClient", UserPoolId=made, ClientName="web",
        ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
    )["UserPoolClient"]["ClientId"]  # fmt: skip
    asked(cognito, "AdminCreateUser", UserPoolId=made, Username="anna")
    asked(
        cognito, "AdminSetUserPassword", UserPoolId=made, Username="anna",
        Password="Passw0rd!x", Permanent=True,
    )  # fmt: skip
    return made, client


def signed_in(client: str, password: str = "Passw0rd!x") -> dict[str, Any]:
    return asked(
        cognito, "InitiateAuth", ClientId=client, AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "anna", "PASSWORD": password},
    )  # fmt: skip


def test_right_password_gets_tokens_that_the_published_keys_verify() -> None:
    made, client = pool()
    tokens = signed_in(client)["AuthenticationResult"]
    keys = {key["kid"]: key for key in json.loads(cognito.well_known_jwks(made)[2])["keys"]}
    for token, use in ((tokens["IdToken"], "id"), (tokens["AccessToken"], "access")):
        claims = verified(token, keys)
        assert claims["token_use"] == use
        assert claims["aud" if use == "id" else "client_id"] == client
        assert claims["exp"] - claims["iat"] == 3600


def verified(token: str, keys: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Returns the claims of a token that one of the keys has signed (RS256)."""
    signed, _, signature = token.rpartition(".")
    header, claims = (json.loads(decoded(part)) for part in signed.split("."))
    numbers = (int.from_bytes(decoded(keys[header["kid"]][name])) for name in ("e", "n"))
    public = rsa.RSAPublicNumbers(*numbers).public_key()
    public.verify(decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return dict(claims)


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_wrong_keys_of_the_issuer_are_at_amazon() -> None:
    """A function that verifies a token gets the keys from its issuer, an address of AWS.

    No setting of an SDK sends that request to the emulator.
    """
    made, client = pool()
    claims = decoded(signed_in(client)["AuthenticationResult"]["IdToken"].split(".")[1])
    assert json.loads(claims)["iss"] == f"https://cognito-idp.us-east-1.amazonaws.com/{made}"


def test_wrong_keys_of_pools_are_not_part_of_the_state() -> None:
    """After a start from the state alone, the keys of a pool would be others."""
    made, _ = pool()
    key = json.loads(cognito.well_known_jwks(made)[2])["keys"][0]
    assert key["n"] not in repr(cognito.get_state())


def test_unknown_password_is_not_authorized() -> None:
    _, client = pool()
    assert signed_in(client, "other")["__type"] == "NotAuthorizedException"
