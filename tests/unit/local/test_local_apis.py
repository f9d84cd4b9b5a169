"""APIs of templates: routes, stages, keys and authorizers, from every form that AWS takes."""

import json
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from mayfly_local.application.apis import Api, ApiKind, AuthorizerKind, Mock
from mayfly_local.application.build import build
from mayfly_local.application.build.mocks import mock_of
from mayfly_local.application.classes import Class
from mayfly_local.application.model import Application
from mayfly_local.application.template import load

FUNCTION = """
F: {Type: AWS::Serverless::Function, Properties: {CodeUri: code, Handler: a.b, Runtime: python3.13}}
"""
URI = (
    '!Sub "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${F.Arn}/invocations"'
)


def application(folder: Path, resources: str, *, function: str = FUNCTION) -> Application:
    (folder / "code").mkdir(exist_ok=True)
    path = folder / "template.yaml"
    text = dedent(function) + dedent(resources)
    path.write_text("Transform: AWS::Serverless-2016-10-31\nResources:\n" + indent(text, "  "))
    template = load(path, cache=folder / "cache")
    return build(template, {}, api_url="http://127.0.0.1:3000")


def only(application: Application) -> Api:
    (api,) = application.apis
    return api


# ---------------------------------------------------------------- addresses


def test_each_api_has_a_port_and_an_id_of_its_own(tmp_path: Path) -> None:
    app = application(
        tmp_path,
        """
        Rest: {Type: AWS::ApiGateway::RestApi, Properties: {Name: a}}
        Http: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: b, ProtocolType: HTTP}}
        Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref F, AuthType: NONE}}
        """,
    )
    assert [(api.name, api.kind, api.id, api.url) for api in app.apis] == [
        ("Http", ApiKind.HTTP, "local", "http://127.0.0.1:3000"),
        ("Rest", ApiKind.REST, "rest", "http://127.0.0.1:3002"),
        ("Url", ApiKind.URL, "url", "http://127.0.0.1:3003"),
    ]


SOCKET = """
W: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: w, ProtocolType: WEBSOCKET}}
Connect:
  Type: AWS::ApiGatewayV2::Route
  Properties: {ApiId: !Ref W, RouteKey: $connect, RouteResponseSelectionExpression: $default}
Stage: {Type: AWS::ApiGatewayV2::Stage, Properties: {ApiId: !Ref W, StageName: prod}}
Response:
  Type: AWS::ApiGatewayV2::RouteResponse
  Properties: {ApiId: !Ref W, RouteId: !Ref Connect, RouteResponseKey: $default}
"""
CALLER = """
F:
  Type: AWS::Serverless::Function
  Properties:
    CodeUri: code
    Handler: a.b
    Runtime: python3.13
    Environment:
      Variables:
        SOCKET: !Sub "wss://${W}.execute-api.${AWS::Region}.amazonaws.com/prod"
        CALLBACK: !Sub "https://${W}.execute-api.${AWS::Region}.amazonaws.com/prod"
        ENDPOINT: !GetAtt W.ApiEndpoint
        API: !Sub "https://${A}.execute-api.${AWS::Region}.amazonaws.com"
"""


def test_websocket_api_is_absent_with_one_line(tmp_path: Path) -> None:
    app = application(tmp_path, SOCKET)
    assert app.apis == ()
    assert [str(part) for part in app.parts if part.group is Class.ABSENT] == [
        "W: ApiGatewayV2::Api (WebSocket)"
    ]
    runs = {part.name for part in app.parts if part.group is Class.RUNS}
    assert not runs & {"W", "Connect", "Stage", "Response"}


def test_websocket_api_by_a_parameter_is_absent(tmp_path: Path) -> None:
    app = application(
        tmp_path,
        "W: {Type: AWS::ApiGatewayV2::Api, Properties: "
        "{Name: w, ProtocolType: !Join ['', [WEB, SOCKET]]}}",
    )
    assert app.apis == ()
    assert "W: a WebSocket API" in [str(part) for part in app.parts]


def test_websocket_api_takes_neither_the_port_nor_the_address_of_another(tmp_path: Path) -> None:
    http = "A: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: a, ProtocolType: HTTP}}"
    app = application(tmp_path, SOCKET + http, function=CALLER)
    assert only(app).url == "http://127.0.0.1:3000"
    assert app.functions["F"].variables == {
        "SOCKET": "wss://w.absent.invalid/prod",
        "CALLBACK": "https://w.absent.invalid/prod",
        "ENDPOINT": "wss://w.absent.invalid",
        "API": "http://127.0.0.1:3000",
    }


# ---------------------------------------------------------------- HTTP APIs by hand

HTTP = f"""
Api: {{Type: AWS::ApiGatewayV2::Api, Properties: {{Name: a, ProtocolType: HTTP}}}}
Stage: {{Type: AWS::ApiGatewayV2::Stage, Properties: {{ApiId: !Ref Api, StageName: v1,
    StageVariables: {{a: 1}}}}}}
Call:
  Type: AWS::ApiGatewayV2::Integration
  Properties: {{ApiId: !Ref Api, IntegrationType: AWS_PROXY, IntegrationUri: !GetAtt F.Arn,
      PayloadFormatVersion: "2.0", TimeoutInMillis: 2000}}
Old: {{Type: AWS::ApiGatewayV2::Integration, Properties: {{ApiId: !Ref Api,
    IntegrationType: AWS_PROXY, IntegrationUri: {URI}, PayloadFormatVersion: "1.0"}}}}
Away: {{Type: AWS::ApiGatewayV2::Integration, Properties: {{ApiId: !Ref Api,
    IntegrationType: HTTP_PROXY, IntegrationUri: "https://x"}}}}
Lambda:
  Type: AWS::ApiGatewayV2::Authorizer
  Properties: {{ApiId: !Ref Api, Name: l, AuthorizerType: REQUEST, AuthorizerUri: {URI},
      IdentitySource: [$request.header.A], AuthorizerPayloadFormatVersion: "2.0",
      EnableSimpleResponses: true, AuthorizerResultTtlInSeconds: 0}}
Jwt: {{Type: AWS::ApiGatewayV2::Authorizer, Properties: {{ApiId: !Ref Api, Name: j,
    AuthorizerType: JWT, IdentitySource: [$request.header.Authorization],
    JwtConfiguration: {{Issuer: "https://i", Audience: [a, b]}}}}}}
R1: {{Type: AWS::ApiGatewayV2::Route, Properties: {{ApiId: !Ref Api, RouteKey: "GET /a",
    Target: !Sub "integrations/${{Call}}", AuthorizationType: CUSTOM,
    AuthorizerId: !Ref Lambda}}}}
R2: {{Type: AWS::ApiGatewayV2::Route, Properties: {{ApiId: !Ref Api, RouteKey: "GET /b",
    Target: !Sub "integrations/${{Old}}", AuthorizationType: JWT, AuthorizerId: !Ref Jwt,
    AuthorizationScopes: [s]}}}}
R3: {{Type: AWS::ApiGatewayV2::Route, Properties: {{ApiId: !Ref Api, RouteKey: $default,
    Target: !Sub "integrations/${{Call}}", AuthorizationType: AWS_IAM}}}}
R4: {{Type: AWS::ApiGatewayV2::Route, Properties: {{ApiId: !Ref Api, RouteKey: "GET /away",
    Target: !Sub "integrations/${{Away}}"}}}}
"""


def test_routes_of_an_http_api_may_be_resources(tmp_path: Path) -> None:
    api = only(application(tmp_path, HTTP))
    routes = {route.key: route for route in api.routes}
    assert [(stage.name, stage.variables) for stage in api.stages] == [("v1", {"a": "1"})]
    first, second, default = routes["GET /a"], routes["GET /b"], routes["$default"]
    assert (first.function, first.payload, first.seconds) == ("F", "2.0", 2.0)
    assert first.authorizer is not None
    assert (first.authorizer.is_simple, first.authorizer.cache_seconds) == (True, 0)
    assert first.authorizer.identity_sources == ("$request.header.A",)
    assert (second.payload, second.scopes) == ("1.0", ("s",))
    assert second.authorizer is not None
    assert (second.authorizer.issuer, second.authorizer.audience) == ("https://i", ("a", "b"))
    assert default.authorizer is not None
    assert default.authorizer.kind is AuthorizerKind.IAM
    assert routes["GET /away"].absent == "the integration http_proxy is absent here"


# ---------------------------------------------------------------- REST APIs by definition


def definition(paths: str, more: str = "") -> str:
    return f"""
Api:
  Type: AWS::Serverless::Api
  Properties:
    StageName: Prod
    DefinitionBody:
      openapi: 3.0.1
      info: {{title: t, version: "1"}}
{indent(dedent(more), "      ")}
      paths:
{indent(dedent(paths), "        ")}
"""


def test_definition_in_openapi_is_a_rest_api(tmp_path: Path) -> None:
    api = only(
        application(
            tmp_path,
            definition(
                f"""
                /a/{{id}}:
                  parameters: [{{in: path, name: id, required: true}}]
                  get:
                    x-amazon-apigateway-request-validator: params
                    parameters: [{{in: header, name: X-A, required: true}}]
                    x-amazon-apigateway-integration:
                      {{type: aws_proxy, uri: {URI}, timeoutInMillis: 500}}
                  x-amazon-apigateway-any-method:
                    security: [{{Own: []}}, {{api_key: []}}]
                    x-amazon-apigateway-integration: {{type: AWS_PROXY, uri: {URI}}}
                """,
                f"""
                x-amazon-apigateway-request-validators:
                  params: {{validateRequestParameters: true}}
                components:
                  securitySchemes:
                    api_key: {{type: apiKey, name: x-api-key, in: header}}
                    Own:
                      type: apiKey
                      name: X-Token
                      in: header
                      x-amazon-apigateway-authtype: custom
                      x-amazon-apigateway-authorizer: {{type: token, authorizerUri: {URI}}}
                """,
            ),
        )
    )  # fmt: skip
    routes = {route.key: route for route in api.routes}
    get, rest = routes["GET /a/{id}"], routes["ANY /a/{id}"]
    assert (get.function, get.payload, get.seconds, get.authorizer) == ("F", "1.0", 0.5, None)
    assert get.validation is not None
    assert get.validation.required == ("method.request.path.id", "method.request.header.X-A")
    assert rest.authorizer is not None
    assert rest.authorizer.identity_sources == ("method.request.header.X-Token",)
    assert (rest.authorizer.kind, rest.authorizer.cache_seconds) == (AuthorizerKind.TOKEN, 300)
    assert rest.needs_key
    assert [len(keys) for keys in api.api_keys.values()] == [1] * len(api.stages)


def test_definition_may_be_a_file(tmp_path: Path) -> None:
    body = {
        "swagger": "2.0",
        "paths": {"/a": {"get": {"x-amazon-apigateway-integration": {"type": "mock"}}}},
    }
    (tmp_path / "api.json").write_text(json.dumps(body))
    resources = """
    Api: {Type: AWS::Serverless::Api, Properties: {StageName: Prod, DefinitionUri: api.json}}
    """
    assert [route.key for route in only(application(tmp_path, resources)).routes] == ["GET /a"]
    body["paths"]["/b"] = body["paths"].pop("/a")  # type: ignore[index, attr-defined]
    (tmp_path / "api.json").write_text(json.dumps(body))
    assert [route.key for route in only(application(tmp_path, resources)).routes] == ["GET /b"]


def test_route_of_a_function_that_is_absent_says_so(tmp_path: Path) -> None:
    function = """
    F:
      Type: AWS::Serverless::Function
      Properties:
        {CodeUri: code, Handler: a.b, Runtime: nodejs20.x, Events: {A: {Type: Api,
            Properties: {Path: /a, Method: get}}}}
    """
    (route,) = only(application(tmp_path, "", function=function)).routes
    assert route.absent == "the function F is absent here"


def test_methods_of_a_rest_api_may_be_resources(tmp_path: Path) -> None:
    resources = f"""
    Api: {{Type: AWS::ApiGateway::RestApi, Properties: {{Name: a}}}}
    Model: {{Type: AWS::ApiGateway::Model, Properties: {{RestApiId: !Ref Api, Name: Pet,
        ContentType: application/json, Schema: {{type: object, required: [name]}}}}}}
    Check: {{Type: AWS::ApiGateway::RequestValidator, Properties: {{RestApiId: !Ref Api,
        ValidateRequestBody: true, ValidateRequestParameters: false}}}}
    Post:
      Type: AWS::ApiGateway::Method
      Properties:
        RestApiId: !Ref Api
        ResourceId: !GetAtt Api.RootResourceId
        HttpMethod: POST
        ApiKeyRequired: true
        AuthorizationType: CUSTOM
        AuthorizerId: !Ref Auth
        RequestValidatorId: !Ref Check
        RequestModels: {{application/json: Pet}}
        RequestParameters: {{method.request.querystring.q: true}}
        Integration: {{Type: AWS_PROXY, IntegrationHttpMethod: POST, Uri: {URI}}}
    Auth: {{Type: AWS::ApiGateway::Authorizer, Properties: {{RestApiId: !Ref Api, Name: x,
        Type: REQUEST, AuthorizerUri: {URI},
        IdentitySource: "method.request.header.A, method.request.querystring.b"}}}}
    Deploy: {{Type: AWS::ApiGateway::Deployment, Properties: {{RestApiId: !Ref Api,
        StageName: live}}}}
    Key: {{Type: AWS::ApiGateway::ApiKey, Properties: {{Value: a-key-of-my-own-choice,
        Enabled: true}}}}
    Plan: {{Type: AWS::ApiGateway::UsagePlan, Properties: {{ApiStages: [{{ApiId: !Ref Api,
        Stage: live}}]}}}}
    Join: {{Type: AWS::ApiGateway::UsagePlanKey, Properties: {{KeyId: !Ref Key, KeyType: API_KEY,
        UsagePlanId: !Ref Plan}}}}
    Answer: {{Type: AWS::ApiGateway::GatewayResponse, Properties: {{RestApiId: !Ref Api,
        ResponseType: DEFAULT_4XX, ResponseParameters: {{gatewayresponse.header.X-A: "'b'"}}}}}}
    """
    api = only(application(tmp_path, resources))
    (route,) = api.routes
    assert (route.key, route.function, route.needs_key) == ("POST /", "F", True)
    assert route.validation is not None
    assert (route.validation.required, route.validation.schema) == (
        (),
        {"type": "object", "required": ["name"]},
    )
    assert route.authorizer is not None
    assert route.authorizer.identity_sources == (
        "method.request.header.A",
        "method.request.querystring.b",
    )
    assert [stage.name for stage in api.stages] == ["live"]
    assert api.api_keys == {"live": ("a-key-of-my-own-choice",)}
    assert api.responses["DEFAULT_4XX"].headers == {"X-A": "b"}


# ---------------------------------------------------------------- aliases


@pytest.mark.parametrize(
    "reference",
    [
        "!Ref F", "!GetAtt F.Arn", "!Ref Live", "!Ref Version",
        '!Sub "${F.Arn}:live"', '!Sub "${F}:live"',
    ],
)  # fmt: skip
def test_alias_and_version_are_the_function(tmp_path: Path, reference: str) -> None:
    app = application(
        tmp_path,
        f"""
        Version: {{Type: AWS::Lambda::Version, Properties: {{FunctionName: !Ref F}}}}
        Live: {{Type: AWS::Lambda::Alias, Properties: {{FunctionName: !Ref F,
            FunctionVersion: !GetAtt Version.Version, Name: live}}}}
        Url: {{Type: AWS::Lambda::Url, Properties: {{TargetFunctionArn: {reference},
            AuthType: NONE}}}}
        """,
    )
    (route,) = only(app).routes
    assert (route.function, route.absent) == ("F", None)


# ---------------------------------------------------------------- mocks

OK = {"application/json": '{"statusCode": 200}'}
FAILED = Mock(
    500,
    {"x-amzn-ErrorType": "InternalServerErrorException"},
    '{"message": "Internal server error"}',
)


@pytest.mark.parametrize(
    ("integration", "mock"),
    [
        pytest.param(
            {"requestTemplates": OK, "responses": {"default": {}}}, Mock(200, {}, ""), id="default"
        ),
        pytest.param({}, FAILED, id="nothing"),
        pytest.param({"responses": {"default": {}}}, FAILED, id="no-status"),
        pytest.param({"requestTemplates": OK}, FAILED, id="no-response"),
        pytest.param({"requestTemplates": OK, "responses": {"4\\d{2}": {}}}, FAILED, id="no-match"),
        pytest.param(
            {
                "requestTemplates": {
                    "a/b": '#if($x)\n{"statusCode": 200}#else{"statusCode": 4}#end'
                },
                "responses": {"default": {}},
            },
            None,
            id="directive-in-the-request",
        ),
        pytest.param(
            {
                "requestTemplates": {"a/b": '{"statusCode": $input.params("code")}'},
                "responses": {"default": {}},
            },
            None,
            id="variable-status",
        ),
        pytest.param(
            {
                "requestTemplates": {"application/json": '{"statusCode" : 204}'},
                "responses": {
                    "default": {"statusCode": 200},
                    "2\\d{2}": {
                        "statusCode": "204",
                        "responseParameters": {
                            "method.response.header.X-A": "'a,b'",
                            "method.response.header.X-B": "integration.response.header.B",
                        },
                        "responseTemplates": {"application/json": "{}"},
                    },
                },
            },
            Mock(204, {"X-A": "a,b"}, "{}"),
            id="pattern",
        ),
        pytest.param(
            {
                "requestTemplates": OK,
                "responses": {"default": {"responseTemplates": {"application/json": "$context.x"}}},
            },
            None,
            id="variable",
        ),
        pytest.param(
            {
                "requestTemplates": OK,
                "responses": {"default": {"responseTemplates": {"text/html": "#set($a = 1)"}}},
            },
            None,
            id="mapping-template",
        ),
    ],
)
def test_mock_has_the_response_of_its_status(integration: Any, mock: Mock | None) -> None:
    assert mock_of(integration) == mock


def test_computed_header_of_a_mock_is_absent(tmp_path: Path) -> None:
    mock = {
        "type": "mock",
        "requestTemplates": OK,
        "responses": {
            "default": {
                "statusCode": "200",
                "responseParameters": {
                    "method.response.header.X-Fixed": "'a'",
                    "method.response.header.X-Id": "context.requestId",
                    "method.response.header.X-None": "integration.response.header.x",
                },
            }
        },
    }
    body = {
        "openapi": "3.0.1",
        "paths": {"/a": {"options": {"x-amazon-apigateway-integration": mock}}},
        "x-amazon-apigateway-gateway-responses": {
            "DEFAULT_4XX": {
                "responseParameters": {
                    "gatewayresponse.header.Vary": "'Origin'",
                    "gatewayresponse.header.X-Origin": "method.request.header.Origin",
                }
            }
        },
    }
    app = application(
        tmp_path, f"A: {{Type: AWS::ApiGateway::RestApi, Properties: {{Body: {json.dumps(body)}}}}}"
    )
    assert [str(part) for part in app.parts if part.group is Class.ABSENT] == [
        "A: OPTIONS /a: the header X-Id of its response, which must be computed",
        "A: gateway response DEFAULT_4XX: the header X-Origin of its response, which must be "
        "computed",
    ]
    (route,) = only(app).routes
    assert route.mock == Mock(200, {"X-Fixed": "a"}, "")


# ---------------------------------------------------------------- stage variables

_BY_NAME = (
    '!Sub "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/arn:aws:lambda:'
    '${AWS::Region}:${AWS::AccountId}:function:${!stageVariables.function}/invocations"'
)
_BY_ALIAS = (
    '!Sub "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${F.Arn}:'
    '${!stageVariables.alias}/invocations"'
)
_ALIAS_ONLY = '!Sub "${F.Arn}:${!stageVariables.alias}"'


@pytest.mark.parametrize("uri", [_BY_NAME, _BY_ALIAS], ids=["name", "alias"])
@pytest.mark.parametrize(
    "stage",
    [
        "S: {Type: AWS::ApiGateway::Stage, Properties: {RestApiId: !Ref A, StageName: v1, "
        "Variables: {function: F, alias: live}}}",
        "D: {Type: AWS::ApiGateway::Deployment, Properties: {RestApiId: !Ref A, StageName: v1, "
        "StageDescription: {Variables: {function: F, alias: live}}}}",
    ],
    ids=["stage", "deployment"],
)
@pytest.mark.parametrize("form", ["definition", "resources"])
def test_stage_variables_of_a_rest_api_name_its_functions(
    tmp_path: Path, uri: str, stage: str, form: str
) -> None:
    proxy = "{type: aws_proxy, httpMethod: POST, uri: " + uri + "}"
    definition = f"""
        A:
          Type: AWS::ApiGateway::RestApi
          Properties:
            Body:
              swagger: "2.0"
              paths: {{/p: {{get: {{x-amazon-apigateway-integration: {proxy}}}}}}}
        """
    own = f"""
        A: {{Type: AWS::ApiGateway::RestApi, Properties: {{Name: a}}}}
        R: {{Type: AWS::ApiGateway::Resource, Properties: {{
          RestApiId: !Ref A, ParentId: !GetAtt A.RootResourceId, PathPart: p}}}}
        M: {{Type: AWS::ApiGateway::Method, Properties: {{
          RestApiId: !Ref A, ResourceId: !Ref R, HttpMethod: GET, AuthorizationType: NONE,
          Integration: {{Type: AWS_PROXY, Uri: {uri}}}}}}}
        """
    api = only(application(tmp_path, dedent(definition if form == "definition" else own) + stage))
    (route,) = api.routes
    assert (route.path, route.function, route.absent) == ("/p", "F", None)
    assert api.stages[0].variables == {"function": "F", "alias": "live"}


def test_stage_variables_of_an_http_api_name_its_functions(tmp_path: Path) -> None:
    api = only(
        application(
            tmp_path,
            f"""
            A: {{Type: AWS::ApiGatewayV2::Api, Properties: {{Name: a, ProtocolType: HTTP}}}}
            S: {{Type: AWS::ApiGatewayV2::Stage, Properties: {{
              ApiId: !Ref A, StageName: v1, StageVariables: {{alias: live}}}}}}
            I: {{Type: AWS::ApiGatewayV2::Integration, Properties: {{
              ApiId: !Ref A, IntegrationType: AWS_PROXY, IntegrationUri: {_ALIAS_ONLY}}}}}
            R: {{Type: AWS::ApiGatewayV2::Route, Properties: {{
              ApiId: !Ref A, RouteKey: GET /p, Target: !Sub "integrations/${{I}}"}}}}
            """,
        )
    )
    assert [(route.function, route.absent) for route in api.routes] == [("F", None)]


def test_stage_variables_that_differ_or_are_missing_are_absent(tmp_path: Path) -> None:
    integration = "{type: aws_proxy, httpMethod: POST, uri: "
    made = application(
        tmp_path,
        f"""
        A:
          Type: AWS::ApiGateway::RestApi
          Properties:
            Body:
              swagger: "2.0"
              paths:
                /a: {{get: {{x-amazon-apigateway-integration: {integration}{_BY_ALIAS}}}}}}}
                /n: {{get: {{x-amazon-apigateway-integration: {integration}{_BY_NAME}}}}}}}
        S: {{Type: AWS::ApiGateway::Stage, Properties: {{
          RestApiId: !Ref A, StageName: v1, Variables: {{alias: live}}}}}}
        T: {{Type: AWS::ApiGateway::Stage, Properties: {{
          RestApiId: !Ref A, StageName: v2, Variables: {{alias: next}}}}}}
        """,
    )
    by_path = {route.path: route for route in only(made).routes}
    assert by_path["/a"].function == "F"
    assert by_path["/n"].absent == "the function ${stageVariables.function} is absent here"
    said = [str(part) for part in made.parts if part.name == "A"]
    assert "A: the value of alias in v2: v1 has its own" in said
