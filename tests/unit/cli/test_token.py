"""Claims of the tokens that `mayfly token` makes."""

from typing import Any

import pytest

from mayfly_cli.token import claims_of

POOL = {"kind": "COGNITO_USER_POOLS", "issuer": "https://pool", "audience": []}
JWT = {"kind": "JWT", "issuer": "https://login", "audience": ["shop", "other"]}


@pytest.mark.parametrize(
    ("issuer", "scopes", "claims"),
    [
        pytest.param(
            POOL, (),
            {"token_use": "id", "cognito:username": "anna", "aud": "local", "auth_time": 7},
            id="id-token-of-cognito",
        ),
        pytest.param(
            POOL, ("read", "write"),
            {
                "token_use": "access", "username": "anna", "client_id": "local", "auth_time": 7,
                "scope": "read write",
            },
            id="access-token-of-cognito",
        ),
        pytest.param(JWT, ("read",), {"aud": "shop", "scope": "read"}, id="token-of-an-issuer"),
    ],
)  # fmt: skip
def test_token_has_the_claims_of_its_kind(
    issuer: dict[str, Any], scopes: tuple[str, ...], claims: dict[str, Any]
) -> None:
    expected = {"iss": issuer["issuer"], "sub": "anna", **claims}
    assert claims_of(issuer, "anna", scopes, 7) == expected
