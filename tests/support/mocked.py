"""moto in place of AWS, for botocore's clients and for the lean one."""

import json
from base64 import b64encode
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, ClassVar, Final
from zlib import crc32

from botocore.awsrequest import AWSPreparedRequest
from botocore.handlers import BUILTIN_HANDLERS
from botocore.model import Shape
from moto.core.base_backend import BackendDict
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.exceptions import ServiceException
from moto.core.model import OperationModel
from moto.core.model_instances import reset_model_data
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.responses import ActionResult
from moto.core.serialize import XFormedAttributePicker, get_serializer_class
from moto.core.utils import camelcase_to_underscores, get_service_model
from moto.dynamodb.responses import DynamoHandler
from werkzeug.exceptions import HTTPException

__all__ = ["MockedAws", "stubber"]

_REGION: Final = "us-east-1"
_URL: Final = f"https://dynamodb.{_REGION}.amazonaws.com/"
_PREFIX: Final = "DynamoDB_20120810."
#: Operations whose results are items and keys: almost all that tests call.
_ON_ITEMS: Final = {
    "BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan",
    "TransactGetItems", "TransactWriteItems", "UpdateItem",
}  # fmt: skip


class Handler(DynamoHandler):
    """moto's answers to calls about items, at a third of the cost.

    moto makes a request of werkzeug from each call, and it looks for each member of each value
    under ten names, for the sake of other services. The rules of DynamoDB are moto's.
    """

    def answer(self, operation: str, body: bytes) -> tuple[int, dict[str, str], str]:
        """Returns the status, the headers and the body of an answer."""
        model = _model(operation)
        self.current_account, self.region = DEFAULT_ACCOUNT_ID, _REGION
        self.uri_match: dict[str, Any] = {}
        parser = PROTOCOL_PARSERS["json"](model)
        # Of a request, this protocol has the body alone.
        self.params = self.body = parser.parse({"body": body})  # type: ignore[typeddict-item]
        try:
            result: ActionResult = getattr(self, camelcase_to_underscores(operation))()
            status, text = 200, json.dumps(_plain(result.result, model.output_shape))
        except ServiceException as problem:
            serializer = get_serializer_class("dynamodb", "json")(
                model, value_picker=XFormedAttributePicker()
            )
            refusal = serializer.serialize(problem)
            status, text = refusal["status_code"], str(refusal["body"])
        except HTTPException as problem:
            status, text = problem.code or 400, str(problem.get_body())
        return status, {"x-amz-crc32": str(crc32(text.encode()))}, text


@cache
def _model(operation: str) -> OperationModel:
    model: OperationModel = get_service_model("dynamodb").operation_model(operation)
    return model


def _plain(value: Any, shape: Shape | None) -> Any:
    """Returns a result as JSON has it, with those members only that its shape names."""
    if shape is None:
        return {}
    match shape.type_name:
        case "structure":
            members: Mapping[str, Shape] = shape.members  # type: ignore[attr-defined]
            return {
                name: _plain(member, members[name])
                for name, member in value.items()
                if member is not None and name in members
            }
        case "map":
            of: Shape = shape.value  # type: ignore[attr-defined]
            return {name: _plain(member, of) for name, member in value.items()}
        case "list":
            of = shape.member  # type: ignore[attr-defined]
            return [_plain(member, of) for member in value]
        case "blob":
            return b64encode(value).decode()
        case "string":
            return str(value)
        case _:
            return value


class Stubber(BotocoreStubber):
    """Answers the requests of clients by moto, while it is enabled."""

    def process_request(self, request: AWSPreparedRequest) -> Any:
        """Returns the status, the headers and the body of an answer, or None."""
        target: Any = request.headers.get("X-Amz-Target", "")
        name = target.decode() if isinstance(target, bytes) else str(target)
        operation = name.removeprefix(_PREFIX)
        is_meant = operation != name and operation in _ON_ITEMS
        if not is_meant or not request.url.startswith(_URL):
            return super().process_request(request)
        body: Any = request.body
        return Handler().answer(operation, body.encode() if isinstance(body, str) else body)


#: Takes the place of moto's own stubber, which is never enabled.
stubber = Stubber()
BUILTIN_HANDLERS.append(("before-send", stubber))


class MockedAws(AbstractContextManager["MockedAws"]):
    """moto, empty at the start of the outermost block.

    moto's own `mock_aws` also answers the library requests. For that it registers thousands of
    patterns each time, which takes longer than most tests. It also drops boto3's session, and a
    new one reads every service model again. Nested blocks share one moto, as in `mock_aws`.
    """

    _depth: ClassVar[int] = 0

    def __enter__(self) -> "MockedAws":
        """Starts moto."""
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stops moto."""
        self.stop()

    def start(self) -> None:
        """Starts moto, without any state if it does not run yet."""
        if MockedAws._depth == 0:
            _forget()
            stubber.enabled = True
        MockedAws._depth += 1

    def stop(self) -> None:
        """Stops moto at the end of the outermost block, and forgets its state."""
        MockedAws._depth -= 1
        if MockedAws._depth == 0:
            stubber.enabled = False
            _forget()


def _forget() -> None:
    BackendDict.reset()
    reset_model_data()
