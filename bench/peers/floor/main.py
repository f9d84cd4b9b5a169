"""One update by a request that is signed here, without any library."""

import hashlib
import hmac
import http.client
import json
import os
import ssl
import time
from urllib.parse import urlsplit

REGION = os.environ["AWS_REGION"]
URL = urlsplit(os.environ["AWS_ENDPOINT_URL"])
TYPE, TARGET = "application/x-amz-json-1.0", "DynamoDB_20120810.UpdateItem"
connection = http.client.HTTPSConnection(
    URL.hostname,
    URL.port,
    context=ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"]),
)


def sign(body: bytes) -> dict[str, str]:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{stamp[:8]}/{REGION}/dynamodb/aws4_request"
    names = "content-type;host;x-amz-date;x-amz-target"
    request = (
        f"POST\n/\n\ncontent-type:{TYPE}\nhost:{URL.netloc}\nx-amz-date:{stamp}\n"
        f"x-amz-target:{TARGET}\n\n{names}\n{hashlib.sha256(body).hexdigest()}"
    )
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = b"AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return {
        "Content-Type": TYPE,
        "X-Amz-Date": stamp,
        "X-Amz-Target": TARGET,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, "
        f"SignedHeaders={names}, Signature={key.hex()}",
    }


def handler(event: dict, context: object) -> dict:
    request = {
        "TableName": os.environ["COUNTERS_TABLE"],
        "Key": {"pk": {"S": "default/hits"}, "sk": {"S": "shard/0"}},
        "UpdateExpression": "ADD #value :by",
        "ExpressionAttributeNames": {"#value": "value"},
        "ExpressionAttributeValues": {":by": {"N": "1"}},
        "ReturnValues": "ALL_NEW",
    }
    body = json.dumps(request).encode()
    connection.request("POST", "/", body, sign(body))
    answer = json.loads(connection.getresponse().read())
    hits = answer["Attributes"]["value"]["N"]
    return {
        "statusCode": 200,
        "headers": {"content-type": "text/plain"},
        "body": f"Hello World! {hits} times.",
    }
