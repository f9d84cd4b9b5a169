import json


def handler(event, context):
    """Answers as a first function of every course."""
    return {"statusCode": 200, "body": json.dumps({"message": "hello from an image"})}
