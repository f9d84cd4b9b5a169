"""APIs of a template: HTTP APIs, REST APIs and function URLs, resolved and frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = [
    "Api",
    "ApiKind",
    "Authorizer",
    "AuthorizerKind",
    "Cors",
    "GatewayResponse",
    "Mock",
    "Route",
    "Stage",
    "Validation",
]


class ApiKind(StrEnum):
    """The service that serves an API. Each has its own events, errors and rules."""

    HTTP = "HTTP API"
    REST = "REST API"
    URL = "function URL"


class AuthorizerKind(StrEnum):
    """The way in which an authorizer finds the caller of a request."""

    #: A function that gets the request.
    REQUEST = "REQUEST"
    #: A function of a REST API that gets one header.
    TOKEN = "TOKEN"  # noqa: S105 - the name of a kind
    #: A JSON Web Token for an HTTP API.
    JWT = "JWT"
    #: A JSON Web Token of a Cognito user pool, for a REST API.
    COGNITO = "COGNITO_USER_POOLS"
    #: A signature with an AWS access key.
    IAM = "AWS_IAM"


@dataclass(frozen=True)
class Authorizer:
    """An authorizer of an API.

    `identity_sources` are in the form of the API's service, such as `$request.header.Authorization`
    or `method.request.header.Authorization`. `payload` is the format of the event for a function of
    an HTTP API. `pattern` is the regular expression that a whole token must match.
    """

    name: str
    function: str = ""
    identity_sources: tuple[str, ...] = ()
    cache_seconds: int = 0
    is_simple: bool = False
    kind: AuthorizerKind = AuthorizerKind.REQUEST
    payload: str = "2.0"
    pattern: str | None = None
    issuer: str = ""
    audience: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mock:
    """A response that an API makes without a function.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-mock-integration.html
    """

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True)
class Validation:
    """The checks of a REST API before it calls the function.

    `required` are parameters such as `method.request.querystring.page`. `schema` is the JSON Schema
    of the body, or None if the body is not checked.
    """

    required: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class Route:
    """A route of an API.

    The method is upper case, or ANY. The path is `$default` for the route that takes unmatched
    requests. A route has a function, a mock, or the reason why it has neither here.
    """

    method: str
    path: str
    function: str
    authorizer: Authorizer | None
    payload: str = "2.0"
    mock: Mock | None = None
    absent: str | None = None
    needs_key: bool = False
    scopes: tuple[str, ...] = ()
    validation: Validation | None = None
    #: Seconds that the API waits for the function, if the route has a limit of its own.
    seconds: float | None = None
    #: True if the API waits for the function without a limit: a debugger may hold it.
    is_debugged: bool = False

    @property
    def key(self) -> str:
        """The route key, in the form that events carry."""
        return self.path if self.path == "$default" else f"{self.method} {self.path}"


@dataclass(frozen=True)
class Cors:
    """The API's answers to browsers' preflight requests.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age: int | None
    credentials: bool


@dataclass(frozen=True)
class Stage:
    """A stage of an API. `$default` has no prefix in the path."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GatewayResponse:
    """A response of a REST API's own in the form that the template gives it.

    `template` is the body with `$context.error.message` and the like, or None to keep the body.
    """

    status: int | None
    headers: Mapping[str, str]
    template: str | None


@dataclass(frozen=True)
class Api:
    """An API with everything that it serves.

    `name` is its logical id, `id` its id in ARNs and events, `url` its local address without a
    stage. `stages` is not empty; the first one also serves requests that name no stage. `api_keys`
    are those that open routes with `needs_key`, by the name of their stage.
    """

    name: str
    id: str
    kind: ApiKind
    url: str
    routes: tuple[Route, ...]
    stages: tuple[Stage, ...]
    cors: Cors | None = None
    binary_types: tuple[str, ...] = ()
    api_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    key_from_authorizer: bool = False
    responses: Mapping[str, GatewayResponse] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """The address that callers use: with the stage if it has a name."""
        stage = self.stages[0].name
        return self.url if stage == "$default" else f"{self.url}/{stage}"
