import json


def lambda_handler(event, context):
    """Sample pure Lambda function, for GET /hello."""
    return {
        "statusCode": 200,
        "body": json.dumps({"message": "hello world"}),
    }
