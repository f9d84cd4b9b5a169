"""The authorizer, through `build` on moto."""

from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.ids import new_secret
from mayfly.core.observability import observer
from mayfly.tenants import ALL_SCOPES, TenantStore, mint

from functions.authorizer.app import build as build_authorizer
from functions.authorizer.deps import Deps as AuthorizerDeps
from tests.support.fakes import Context, FixedClock
from tests.support.faults import Faults


@pytest.fixture
def authorizer(dynamodb: Any) -> tuple[Any, str]:
    store = TenantStore(
        DynamoDB(dynamodb, pause=lambda attempt: None), "TenantsTable", clock=FixedClock()
    )
    text, key = mint("dev", "acme", ALL_SCOPES, now_ms=1, new_secret=new_secret)
    store.add_key(key)
    return build_authorizer(AuthorizerDeps(tenants=store, observe=observer("authorizer"))), text


def test_authorizer_passes_tenant_and_scopes(authorizer: tuple[Any, str]) -> None:
    handler, text = authorizer
    reply = handler({"headers": {"authorization": f"Bearer {text}"}}, Context())
    assert reply == {
        "isAuthorized": True,
        "context": {"tenant": "acme", "scopes": " ".join(sorted(ALL_SCOPES))},
    }


def test_authorizer_accepts_a_key_whose_use_cannot_be_noted(
    authorizer: tuple[Any, str], faults: Faults
) -> None:
    faults.refuse("UpdateItem", "ThrottlingException")
    handler, text = authorizer
    assert (
        handler({"headers": {"authorization": f"Bearer {text}"}}, Context())["context"]["tenant"]
        == "acme"
    )
    assert "UpdateItem" in faults.requests


def test_authorizer_passes_the_reason_of_a_refusal(authorizer: tuple[Any, str]) -> None:
    reply = authorizer[0]({"headers": {"authorization": "Bearer nonsense"}}, Context())
    assert reply["context"] == {"reason": "the Authorization header holds no Mayfly key"}
