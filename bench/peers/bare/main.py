"""A handler without a store: what Python and the Runtime API client cost."""


def handler(event: dict, context: object) -> dict:
    return {"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": "Hello World!"}
