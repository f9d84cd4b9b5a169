"""A deployed stack as far as commands read it: CloudFormation, Lambda, SQS and DynamoDB by HTTP.

Its parts are those of a transformed template. moto's CloudFormation needs packages that nothing
else here needs, and the local runtime has no API that describes functions.
"""

import json
import re
import threading
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

from mayfly_local.application.template import Template

__all__ = ["DeployedStack"]

_ARN = "arn:aws:{service}:us-east-1:123456789012:{name}"


class DeployedStack:
    """A server with one stack. `denied` are actions that are refused, such as `sqs:ListQueues`.

    `items` are those of tables by logical ids. `calls` has the actions that were called.
    """

    def __init__(
        self,
        template: Template,
        *,
        name: str = "shop",
        items: Mapping[str, list[dict[str, Any]]] | None = None,
        denied: Collection[str] = (),
    ) -> None:
        self.name = name
        self.template = template
        self.items = items or {}
        self.denied = denied
        self.calls: set[str] = set()
        stack = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def log_message(self, *_: Any) -> None:
                """Prints nothing."""

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                service = self.headers["Authorization"].split("/")[3]
                target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
                status, kind, reply = stack.answer(service, target, self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "DeployedStack":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, service: str, target: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Returns status, content type and body of the answer to one request."""
        if service == "cloudformation":
            return self._cloudformation({k: v[0] for k, v in parse_qs(body.decode()).items()})
        request = json.loads(body or b"{}")
        action, reply = (
            self._lambda(unquote(path)) if service == "lambda" else self._json(target, request)
        )
        self.calls.add(f"{service}:{action}")
        if f"{service}:{action}" in self.denied:
            code = "AccessDeniedException"
            error = {"__type": code, "message": f"not authorized to perform: {service}:{action}"}
            return 403, "application/x-amz-json-1.0", json.dumps(error).encode()
        return 200, "application/x-amz-json-1.0", json.dumps(reply).encode()

    def _cloudformation(self, request: Mapping[str, str]) -> tuple[int, str, bytes]:
        self.calls.add(f"cloudformation:{request['Action']}")
        if request["StackName"] != self.name:
            text = (
                "<ErrorResponse><Error><Code>ValidationError</Code>"
                f"<Message>Stack with id {request['StackName']} does not exist</Message></Error>"
                "</ErrorResponse>"
            )
            return 400, "text/xml", text.encode()
        members = "".join(
            f"<member><LogicalResourceId>{name}</LogicalResourceId>"
            f"<PhysicalResourceId>{self._physical(name)}</PhysicalResourceId>"
            f"<ResourceType>{resource['Type']}</ResourceType></member>"
            for name, resource in self.template.resources.items()
        )
        text = (
            "<ListStackResourcesResponse><ListStackResourcesResult><StackResourceSummaries>"
            f"{members}</StackResourceSummaries></ListStackResourcesResult>"
            "</ListStackResourcesResponse>"
        )
        return 200, "text/xml", text.encode()

    def _physical(self, name: str) -> str:
        own = f"shop-{name}-1X"
        match self.template.resources[name]["Type"]:
            case "AWS::SQS::Queue":
                return f"{self.endpoint}/123456789012/{own}"
            case "AWS::Lambda::EventSourceMapping":
                return own.ljust(36, "0")  # the length of a UUID, which boto3 checks
        return own

    def _properties(self, physical: str) -> dict[str, Any]:
        match = re.search(r"shop-(\w+)-1X", physical)
        assert match, physical
        properties: dict[str, Any] = self.template.resources[match[1]].get("Properties") or {}
        return properties

    def _lambda(self, path: str) -> tuple[str, dict[str, Any]]:
        properties = self._properties(path)
        if "/event-source-mappings/" in path:
            source, attribute = next(iter(properties["EventSourceArn"].values()))
            service = "dynamodb" if attribute == "StreamArn" else "sqs"
            place = f"table/shop-{source}-1X/stream/1" if service == "dynamodb" else None
            return "GetEventSourceMapping", {
                "EventSourceArn": _ARN.format(service=service, name=place or f"shop-{source}-1X"),
                "FunctionArn": _ARN.format(
                    service="lambda", name=f"function:shop-{properties['FunctionName']['Ref']}-1X"
                ),
                "FunctionResponseTypes": properties.get("FunctionResponseTypes", []),
            }
        variables = properties["Environment"]["Variables"]
        return "GetFunctionConfiguration", {
            "Timeout": properties.get("Timeout", 3),
            "Environment": {
                "Variables": {
                    name: value if isinstance(value, str) else self._value(value)
                    for name, value in variables.items()
                }
            },
        }

    def _value(self, value: Any) -> str:
        name = value.get("Ref")
        return str(self.template.parameters.get(name, "something"))

    def _json(self, action: str, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        if action == "GetQueueAttributes":
            properties = self._properties(request["QueueUrl"])
            found = {"VisibilityTimeout": str(properties.get("VisibilityTimeout", 30))}
            if "RedrivePolicy" in properties:
                receives = properties["RedrivePolicy"]["maxReceiveCount"]
                found["RedrivePolicy"] = json.dumps({"maxReceiveCount": receives})
            return action, {"Attributes": found}
        properties = self._properties(request["TableName"])
        if action == "DescribeTimeToLive":
            ttl = properties.get("TimeToLiveSpecification")
            status = {"TimeToLiveStatus": "ENABLED" if ttl else "DISABLED"}
            attribute = {"AttributeName": ttl["AttributeName"]} if ttl else {}
            return action, {"TimeToLiveDescription": {**status, **attribute}}
        if action == "Scan":
            match = re.search(r"shop-(\w+)-1X", request["TableName"])
            assert match
            items = self.items.get(match[1], [])[: request["Limit"]]
            return action, {"Items": items, "Count": len(items), "ScannedCount": len(items)}
        stream = properties.get("StreamSpecification")
        return action, {
            "Table": {
                "KeySchema": properties["KeySchema"],
                "GlobalSecondaryIndexes": [
                    {**index, "IndexStatus": "ACTIVE"}
                    for index in properties.get("GlobalSecondaryIndexes", [])
                ],
                **({"StreamSpecification": {"StreamEnabled": True, **stream}} if stream else {}),
            }
        }
