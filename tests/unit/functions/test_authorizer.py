"""The two authorizers, through `build` on moto."""

from collections.abc import Callable
from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.ids import new_secret
from mayfly.core.observability import observer
from mayfly.tenants import ALL_SCOPES, TenantStore, mint

from functions.authorizer.app import build as build_authorizer
from functions.authorizer.deps import Deps as AuthorizerDeps
from functions.identify_callers.app import build as build_identify_callers
from functions.identify_callers.deps import Deps as IdentifyCallersDeps
from tests.support.fakes import Context, FixedClock
from tests.support.faults import Faults

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

REFUSED = {
    "no key": ("Bearer nonsense", "the Authorization header holds no Mayfly key"),
    "mistyped": (None, "the key is mistyped or cut short (its checksum does not match)"),
    "unknown": (
        "Bearer " + mint("dev", "acme", ALL_SCOPES, now_ms=1, new_secret=new_secret)[0],
        "the key is not known",
    ),
}


@pytest.fixture
def store(dynamodb: Any) -> TenantStore:
    return TenantStore(
        DynamoDB(dynamodb, pause=lambda attempt: None), "TenantsTable", clock=FixedClock()
    )


@pytest.fixture
def authorizer(store: TenantStore) -> Handler:
    return build_authorizer(AuthorizerDeps(store, observer("authorizer")))


@pytest.fixture
def identify_callers(store: TenantStore) -> Handler:
    return build_identify_callers(IdentifyCallersDeps(store, observer("identify_callers")))


@pytest.fixture
def header(store: TenantStore) -> str:
    text, key = mint("dev", "acme", ALL_SCOPES, now_ms=1, new_secret=new_secret)
    store.add_key(key)
    return f"Bearer {text}"


def mistyped(header: str) -> str:
    return header[:-1] + ("A" if header[-1] != "A" else "B")


def ask(handler: Handler, authorization: str) -> dict[str, Any]:
    return handler({"headers": {"authorization": authorization}}, Context())


@pytest.mark.parametrize("name", ["authorizer", "identify_callers"])
def test_both_pass_tenant_and_scopes_of_a_valid_key(
    name: str, header: str, request: pytest.FixtureRequest
) -> None:
    assert ask(request.getfixturevalue(name), header) == {
        "isAuthorized": True,
        "context": {"tenant": "acme", "scopes": " ".join(sorted(ALL_SCOPES))},
    }


@pytest.mark.parametrize("name", ["authorizer", "identify_callers"])
def test_both_accept_a_key_whose_use_cannot_be_noted(
    name: str, header: str, request: pytest.FixtureRequest, faults: Faults
) -> None:
    faults.refuse("UpdateItem", "ThrottlingException")
    assert ask(request.getfixturevalue(name), header)["context"]["tenant"] == "acme"
    assert "UpdateItem" in faults.requests


@pytest.mark.parametrize("credential", REFUSED)
def test_authorizer_refuses_every_other_credential(
    credential: str, authorizer: Handler, header: str
) -> None:
    assert ask(authorizer, REFUSED[credential][0] or mistyped(header)) == {"isAuthorized": False}


@pytest.mark.parametrize("credential", REFUSED)
def test_functions_of_mayfly_learn_why_a_credential_is_refused(
    credential: str, identify_callers: Handler, header: str
) -> None:
    value, reason = REFUSED[credential]
    reply = ask(identify_callers, value or mistyped(header))
    assert reply == {"isAuthorized": True, "context": {"reason": reason}}


@pytest.mark.parametrize("name", ["authorizer", "identify_callers"])
def test_made_up_key_costs_no_read_of_the_store(
    name: str, header: str, request: pytest.FixtureRequest, faults: Faults
) -> None:
    handler = request.getfixturevalue(name)
    faults.requests.clear()
    for value in ("Bearer nonsense", mistyped(header), header[:-1]):
        ask(handler, value)
    assert faults.requests == []
