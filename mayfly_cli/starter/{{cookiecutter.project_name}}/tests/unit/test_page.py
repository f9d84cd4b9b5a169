"""The page, called as Lambda calls it."""

from types import SimpleNamespace

from mayfly import observer, resources

EVENT = {
    "version": "2.0",
    "routeKey": "GET /",
    "rawPath": "/",
    "rawQueryString": "",
    "headers": {},
    "requestContext": {
        "requestId": "1",
        "stage": "$default",
        "http": {"method": "GET", "path": "/", "sourceIp": "127.0.0.1"},
    },
    "isBase64Encoded": False,
}


def test_page_counts_its_visits(tables: dict[str, str], context: SimpleNamespace) -> None:
    from {{cookiecutter.project_name}}.page import build

    handler = build(resources.counter_store(tables), observer("page"))
    assert handler(EVENT, context)["body"].endswith("visits 1, orders 0")
    assert handler(EVENT, context)["body"].endswith("visits 2, orders 0")
