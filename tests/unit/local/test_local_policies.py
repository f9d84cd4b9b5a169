"""The policies of authorizers: AWS's rules of evaluation, one case each."""

from typing import Any

import pytest

from mayfly_local.sources.policies import MalformedPolicy, Verdict, evaluate

API = "arn:aws:execute-api:us-east-1:000000000000:local"
GET_A = f"{API}/$default/GET/pets/a"
ALLOWED, NOT_ALLOWED, DENIED = Verdict.ALLOWED, Verdict.NOT_ALLOWED, Verdict.DENIED


def say(effect: str, resource: Any, action: Any = "execute-api:Invoke", **more: Any) -> Any:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def allow(resource: Any, action: Any = "execute-api:Invoke", **more: Any) -> Any:
    return say("Allow", resource, action, **more)


def deny(resource: Any, action: Any = "execute-api:Invoke", **more: Any) -> Any:
    return say("Deny", resource, action, **more)


@pytest.mark.parametrize(
    ("statements", "verdict"),
    [
        pytest.param([], NOT_ALLOWED, id="no-statement"),
        pytest.param([allow(GET_A)], ALLOWED, id="same-resource"),
        pytest.param([allow(f"{API}/$default/GET/pets/b")], NOT_ALLOWED, id="other-resource"),
        pytest.param([allow(f"{API}/$default/POST/pets/a")], NOT_ALLOWED, id="other-method"),
        pytest.param([allow(f"{API}/prod/GET/pets/a")], NOT_ALLOWED, id="other-stage"),
        pytest.param([allow(GET_A.replace("local", "other"))], NOT_ALLOWED, id="other-api"),
        pytest.param([allow("*")], ALLOWED, id="star"),
        pytest.param([allow(f"{API}/*")], ALLOWED, id="star-at-the-end-crosses-slashes"),
        pytest.param([allow(f"{API}/*/GET/*")], ALLOWED, id="stars-for-stage-and-path"),
        pytest.param([allow(f"{API}/*/*/pets/*")], ALLOWED, id="stars-for-stage-method-and-name"),
        pytest.param([allow(f"{API}/*/POST/*")], NOT_ALLOWED, id="stars-and-another-method"),
        pytest.param([allow(f"{API}/$default/GET/pets/?")], ALLOWED, id="question-mark"),
        pytest.param([allow(f"{API}/$default/GET/pet?")], NOT_ALLOWED, id="question-mark-is-one"),
        pytest.param([allow(f"{API}/.default/GET/pets/a")], NOT_ALLOWED, id="dot-is-a-dot"),
        pytest.param([allow(f"{API}/$default/GET/pets")], NOT_ALLOWED, id="prefix-is-not-enough"),
        pytest.param([allow(f"{API}/$default/get/pets/a")], NOT_ALLOWED, id="resource-has-case"),
        pytest.param([allow(["nothing", GET_A])], ALLOWED, id="list-of-resources"),
        pytest.param([allow("*", "*")], ALLOWED, id="every-action"),
        pytest.param([allow("*", "execute-api:*")], ALLOWED, id="every-action-of-the-service"),
        pytest.param([allow("*", "EXECUTE-API:invoke")], ALLOWED, id="action-has-no-case"),
        pytest.param(
            [allow("*", "execute-api:InvalidateCache")], NOT_ALLOWED, id="other-action"
        ),
        pytest.param([allow("*", ["a:b", "execute-api:Invoke"])], ALLOWED, id="list-of-actions"),
        pytest.param([say("allow", "*")], NOT_ALLOWED, id="effect-in-lower-case"),
        pytest.param([say("deny", "*"), allow("*")], NOT_ALLOWED, id="deny-in-lower-case"),
        pytest.param([{"Action": "*", "Resource": "*"}], NOT_ALLOWED, id="no-effect"),
        pytest.param([deny("*")], DENIED, id="deny-alone"),
        pytest.param([allow("*"), deny(GET_A)], DENIED, id="deny-after-allow"),
        pytest.param([deny(GET_A), allow("*")], DENIED, id="deny-before-allow"),
        pytest.param(
            [allow("*"), deny(f"{API}/*/GET/secret-2")], ALLOWED, id="deny-of-another-route"
        ),
        pytest.param(
            [allow(f"{API}/*/GET/x"), allow(GET_A)], ALLOWED, id="second-statement-allows"
        ),
        pytest.param(
            [{"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}], ALLOWED, id="not-action"
        ),
        pytest.param(
            [{"Effect": "Allow", "NotAction": "execute-api:*", "Resource": "*"}],
            NOT_ALLOWED,
            id="not-action-of-this",
        ),
        pytest.param(
            [{"Effect": "Deny", "Action": "*", "NotResource": GET_A}, allow("*")],
            ALLOWED,
            id="not-resource-of-this",
        ),
        pytest.param(
            [{"Effect": "Deny", "Action": "*", "NotResource": f"{API}/x"}, allow("*")],
            DENIED,
            id="not-resource-of-another",
        ),
        pytest.param(
            [allow("*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})],
            ALLOWED,
            id="condition-holds",
        ),
        pytest.param(
            [allow("*", Condition={"IpAddress": {"aws:SourceIp": ["192.168.0.0/16"]}})],
            NOT_ALLOWED,
            id="condition-does-not-hold",
        ),
        pytest.param(
            [allow("*"), deny("*", Condition={"NotIpAddress": {"aws:SourceIp": "10.1.0.0/16"}})],
            ALLOWED,
            id="deny-with-a-condition-that-does-not-hold",
        ),
        pytest.param(
            [allow("*", Condition={"StringLike": {"aws:UserAgent": "curl/*"}})],
            ALLOWED,
            id="condition-like",
        ),
        pytest.param(
            [allow("*", Condition={"StringEquals": {"aws:Referer": "x"}})],
            NOT_ALLOWED,
            id="condition-on-a-missing-value",
        ),
    ],
)  # fmt: skip
def test_policy_is_evaluated_as_iam_does(statements: list[Any], verdict: Verdict) -> None:
    facts = {"aws:sourceip": "10.1.2.3", "aws:useragent": "curl/8"}
    document = {"Version": "2012-10-17", "Statement": statements}
    assert evaluate(document, GET_A, facts=facts) is verdict


def test_single_statement_need_not_be_in_a_list() -> None:
    assert evaluate({"Statement": allow("*")}, GET_A) is ALLOWED


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("x", id="text"),
        pytest.param(None, id="nothing"),
        pytest.param({"Statement": "x"}, id="statement-text"),
        pytest.param({"Statement": [["Allow"]]}, id="statement-list"),
        pytest.param({"Statement": [{"Effect": "Allow", "Resource": "*"}]}, id="no-action"),
        pytest.param({"Statement": [{"Effect": "Allow", "Action": "*"}]}, id="no-resource"),
        pytest.param({"Statement": [allow(1)]}, id="resource-number"),
        pytest.param({"Statement": [allow({"a": 1})]}, id="resource-object"),
        pytest.param(
            {"Statement": [allow("*", Condition={"DateLessThan": {"aws:CurrentTime": "x"}})]},
            id="condition-that-is-not-evaluated",
        ),
        pytest.param(
            {"Statement": [allow("*", Condition={"IpAddress": {"aws:SourceIp": "x"}})]},
            id="condition-with-an-invalid-address",
        ),
    ],
)
def test_document_that_is_not_a_policy_is_refused(document: Any) -> None:
    with pytest.raises(MalformedPolicy):
        evaluate(document, GET_A, facts={"aws:sourceip": "10.1.2.3"})
