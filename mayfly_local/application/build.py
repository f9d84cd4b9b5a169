"""The application that runs: a template's functions and event sources, resolved and frozen."""

import json
import re
from pathlib import Path
from typing import Any, Final

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.model import (
    Application,
    Authorizer,
    Cors,
    Function,
    QueueSource,
    Route,
    Schedule,
    StreamSource,
)
from mayfly_local.application.patterns import check_pattern
from mayfly_local.application.schedule_times import ScheduleTimes
from mayfly_local.application.template import UNUSABLE, Template
from mayfly_local.errors import TemplateError
from mayfly_local.iam.permissions import Role

__all__ = ["build"]

_LAMBDA_URI: Final = re.compile(r"/functions/(?P<arn>arn:[^/]+)/invocations$")
_METHODS: Final = {
    "get",
    "put",
    "post",
    "delete",
    "options",
    "head",
    "patch",
    "trace",
    "x-amazon-apigateway-any-method",
}
_BODY_KEYS: Final = {"components", "info", "openapi", "paths", "tags", "x-amazon-apigateway-cors"}
_SQS_BATCH_WITHOUT_WINDOW: Final = 10


def build(
    template: Template, state: dict[tuple[str, str | None], Any], *, api_url: str
) -> Application:
    """Resolves functions and event sources against the deployed state.

    Raises TemplateError with every problem found.
    """
    try:
        return _Builder(template, state, api_url).build()
    except UNUSABLE as problem:
        raise TemplateError(
            template.path, [f"a property has a value that cannot be used: {problem!r}"]
        ) from None


class _Builder:
    def __init__(
        self, template: Template, state: dict[tuple[str, str | None], Any], api_url: str
    ) -> None:
        self._template = template
        self._problems: list[str] = []
        self._scope = {**self._compute_scope(), **state}
        self._api_url = api_url

    def build(self) -> Application:
        functions = {
            name: self._function_or_problem(name, properties)
            for name, properties in self._each("AWS::Lambda::Function")
        }
        self._timeouts = {name: function.timeout_seconds for name, function in functions.items()}
        self._by_reference = {
            reference: name
            for name, function in functions.items()
            for reference in (name, function.arn)
        }
        apis = self._each("AWS::ApiGatewayV2::Api")
        if len(apis) > 1:
            self._problems.append(
                "more than one HTTP API is not supported locally: "
                f"{', '.join(name for name, _ in apis)}"
            )
        routes, cors = self._api(*apis[0]) if apis else ((), None)
        mappings = [
            self._mapping(name, properties)
            for name, properties in self._each("AWS::Lambda::EventSourceMapping")
            if properties.get("Enabled", True)
        ]
        schedules = [*self._rules(), *self._schedules()]
        application = Application(
            name=self._template.name,
            functions=functions,
            routes=routes,
            cors=cors,
            stage_variables=self._stage_variables(),
            queues=tuple(source for source in mappings if isinstance(source, QueueSource)),
            streams=tuple(source for source in mappings if isinstance(source, StreamSource)),
            schedules=tuple(schedule for schedule in schedules if schedule is not None),
            outputs=self._outputs(),
            after_deploy=tuple(self._template.metadata.get("Mayfly", {}).get("AfterDeploy", ())),
        )
        if self._problems:
            raise TemplateError(self._template.path, self._problems)
        return application

    def _compute_scope(self) -> dict[tuple[str, str | None], Any]:
        """Returns the values of Ref and GetAtt for compute resources."""
        scope: dict[tuple[str, str | None], Any] = {}
        for name, resource in self._template.resources.items():
            match resource["Type"]:
                case "AWS::Lambda::Function":
                    scope[name, None] = name
                    scope[name, "Arn"] = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
                case "AWS::Lambda::LayerVersion":
                    scope[name, None] = f"layer:{name}"
                case "AWS::IAM::Role":
                    scope[name, None] = name
                    scope[name, "Arn"] = f"arn:aws:iam::{ACCOUNT}:role/{name}"
                case "AWS::Logs::LogGroup":
                    scope[name, None] = f"/aws/lambda/{name}"
                    scope[name, "Arn"] = (
                        f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{name}:*"
                    )
                case "AWS::Events::Rule" | "AWS::Scheduler::Schedule":
                    scope[name, None] = name
                    scope[name, "Arn"] = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}"
                case "AWS::ApiGatewayV2::Api":
                    scope[name, None] = "local"
                case _:
                    scope[name, None] = name
        return scope

    def _each(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        return [
            (name, self._resolved(name, properties))
            for name, properties in self._template.of_type(kind).items()
        ]

    def _resolved(self, name: str, properties: dict[str, Any]) -> dict[str, Any]:
        skipped = (
            {"Tags", "AccessLogSettings", "FunctionName"} if "Handler" in properties else {"Tags"}
        )
        wanted = {key: value for key, value in properties.items() if key not in skipped}
        try:
            resolved: dict[str, Any] = self._template.resolve(wanted, self._scope)
        except TemplateError as problem:
            raise TemplateError(
                self._template.path, [f"resource {name}: {text}" for text in problem.problems]
            ) from None
        except UNUSABLE as problem:
            raise TemplateError(
                self._template.path, [f"resource {name}: a value cannot be used ({problem})"]
            ) from None
        return resolved

    def _function_or_problem(self, name: str, properties: dict[str, Any]) -> Function:
        try:
            return self._function(name, properties)
        except UNUSABLE as problem:
            raise TemplateError(
                self._template.path,
                [f"resource {name}: a property has a value that cannot be used ({problem})"],
            ) from None

    def _function(self, name: str, properties: dict[str, Any]) -> Function:
        code = properties.get("Code", {})
        folder = self._local_folder(name, code)
        runtime = properties.get("Runtime", "")
        if not runtime.startswith("python3"):
            self._problems.append(
                f"resource {name}: the runtime {runtime or 'of a container image'} is not "
                "supported locally (python3.x is)"
            )
        variables = properties.get("Environment", {}).get("Variables", {})
        limit = properties.get("ReservedConcurrentExecutions")
        metadata = self._template.resources[name].get("Metadata", {})
        timeout, memory = int(properties.get("Timeout", 3)), int(properties.get("MemorySize", 128))
        if not 1 <= timeout <= 900:
            self._problems.append(
                f"resource {name}: Timeout {timeout} is not from 1 to 900 seconds"
            )
        if not 128 <= memory <= 10240:
            self._problems.append(
                f"resource {name}: MemorySize {memory} is not from 128 to 10240 MB"
            )
        return Function(
            name=name,
            arn=self._scope[name, "Arn"],
            handler=properties.get("Handler", ""),
            runtime=runtime,
            timeout_seconds=timeout,
            memory_mb=memory,
            variables={key: _text(value) for key, value in variables.items()},
            code=folder,
            inline=code.get("ZipFile"),
            brings_packages=folder is not None
            and (folder / "requirements.txt").exists()
            and not metadata.get("SkipBuild"),
            layers=tuple(
                self._layer(name, reference) for reference in properties.get("Layers", [])
            ),
            limit=None if limit is None else int(limit),
            log_group=str(
                properties.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{name}"
            ),
            role=self._role(properties.get("Role")),
        )

    def _role(self, reference: Any) -> Role | None:
        """Returns the role of an ARN, with all policies that the template attaches to it.

        Returns None if the role is not in the template.
        """
        roles = self._template.of_type("AWS::IAM::Role")
        name = next((role for role in roles if reference in (self._scope[role, "Arn"], role)), None)
        if name is None:
            return None
        role = self._resolved(name, roles[name])
        documents = [policy["PolicyDocument"] for policy in role.get("Policies", ())]
        arns = [str(arn) for arn in role.get("ManagedPolicyArns", ())]
        if "PermissionsBoundary" in role:
            self._problems.append(f"resource {name}: PermissionsBoundary is not supported locally")
        for policy, properties in self._each("AWS::IAM::Policy") + self._each(
            "AWS::IAM::ManagedPolicy"
        ):
            if name in properties.get("Roles", ()) or policy in arns:
                documents.append(properties["PolicyDocument"])
        statements = [
            statement for document in documents for statement in _many(document.get("Statement"))
        ]
        if any("NotResource" in statement for statement in statements):
            self._problems.append(
                f"resource {name}: NotResource in a policy is not supported locally"
            )
        return Role(name, tuple(documents), tuple(arn.rpartition("/")[2] for arn in arns))

    def _local_folder(self, name: str, code: dict[str, Any]) -> Path | None:
        if code.get("S3Bucket") == "local":
            return (self._template.folder / str(code["S3Key"])).resolve()
        if "ZipFile" not in code:
            self._problems.append(f"resource {name}: its code is not a local folder")
        return None

    def _layer(self, function: str, reference: str) -> Path:
        name = str(reference).removeprefix("layer:")
        layer = self._template.of_type("AWS::Lambda::LayerVersion").get(name)
        if layer is None:
            self._problems.append(
                f"resource {function}: the layer {reference} is not in this template"
            )
            return self._template.folder
        return self._local_folder(name, layer.get("Content", {})) or self._template.folder

    def _api(self, name: str, properties: dict[str, Any]) -> tuple[tuple[Route, ...], Cors | None]:
        body = properties.get("Body", {})
        self._problems += [
            f"resource {name}: {key} of an API's Body is not supported locally"
            for key in sorted(set(body) - _BODY_KEYS)
        ]
        schemes = body.get("components", {}).get("securitySchemes", {})
        authorizers = {
            scheme: self._authorizer(name, scheme, spec) for scheme, spec in schemes.items()
        }
        routes = []
        for path, operations in body.get("paths", {}).items():
            for method, operation in operations.items():
                if method not in _METHODS:
                    self._problems.append(
                        f"resource {name}: {method.upper()} {path} is not a method of an HTTP API"
                    )
                    continue
                if not path.startswith("/") and path != "$default":
                    self._problems.append(f"resource {name}: the path {path} does not start with /")
                where = f"resource {name}: {method.upper()} {path}"
                integration = operation.get("x-amazon-apigateway-integration", {})
                function = self._called(where, integration.get("uri", ""))
                if integration.get("payloadFormatVersion") != "2.0":
                    self._problems.append(f"{where}: only payload format 2.0 is supported locally")
                names = [
                    scheme
                    for requirement in operation.get("security", [])
                    for scheme in requirement
                    if scheme != "NONE"
                ]
                authorizer = authorizers.get(names[0]) if names else None
                verb = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
                routes.append(Route(verb, path, function, authorizer))
        return tuple(routes), _cors(
            body.get("x-amazon-apigateway-cors") or properties.get("CorsConfiguration")
        )

    def _authorizer(self, api: str, name: str, scheme: dict[str, Any]) -> Authorizer:
        spec = scheme.get("x-amazon-apigateway-authorizer", {})
        where = f"resource {api}: authorizer {name}"
        if spec.get("type") != "request" or spec.get("authorizerPayloadFormatVersion") != "2.0":
            self._problems.append(
                f"{where}: only Lambda authorizers of format 2.0 are supported locally"
            )
        for source in spec.get("identitySource", ()):
            if not re.fullmatch(r"\$request\.(header|querystring)\.[^.]+", source):
                self._problems.append(
                    f"{where}: the identity source {source} is not supported locally"
                )
        return Authorizer(
            name=name,
            function=self._called(where, spec.get("authorizerUri", "")),
            identity_sources=tuple(spec.get("identitySource", ())),
            cache_seconds=int(
                spec.get("authorizerResultTtlInSeconds", 300 if spec.get("identitySource") else 0)
            ),
            is_simple=bool(spec.get("enableSimpleResponses", False)),
        )

    def _mapping(self, name: str, properties: dict[str, Any]) -> QueueSource | StreamSource | None:
        source = str(properties.get("EventSourceArn", ""))
        function = self._called(f"resource {name}", properties.get("FunctionName", ""))
        reports = "ReportBatchItemFailures" in properties.get("FunctionResponseTypes", [])
        window = int(properties.get("MaximumBatchingWindowInSeconds", 0))
        patterns = self._patterns(name, properties)
        if source.startswith("arn:") and source not in map(str, self._scope.values()):
            self._problems.append(
                f"resource {name}: the event source {source} is not in this template"
            )
        if ":sqs:" in source:
            self._check_visibility(name, source, function)
            size = int(properties.get("BatchSize", _SQS_BATCH_WITHOUT_WINDOW))
            if size > _SQS_BATCH_WITHOUT_WINDOW and not window:
                self._problems.append(
                    f"resource {name}: a BatchSize above {_SQS_BATCH_WITHOUT_WINDOW} needs "
                    "MaximumBatchingWindowInSeconds"
                )
            concurrency = properties.get("ScalingConfig", {}).get("MaximumConcurrency")
            return QueueSource(
                function,
                source,
                size,
                window,
                reports,
                None if concurrency is None else int(concurrency),
                patterns,
            )
        if ":dynamodb:" in source:
            # -1 means "without limit", as does leaving them out.
            retries, age = (
                int(properties.get(key, -1))
                for key in ("MaximumRetryAttempts", "MaximumRecordAgeInSeconds")
            )
            on_failure = (
                properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
            )
            if on_failure is not None and ":sqs:" not in str(on_failure):
                self._problems.append(
                    f"resource {name}: only an SQS queue is supported locally as on-failure "
                    "destination"
                )
            return StreamSource(
                name=name,
                function=function,
                stream_arn=source,
                batch_size=int(properties.get("BatchSize", 100)),
                window_seconds=window,
                reports_failures=reports,
                starts_at=properties.get("StartingPosition", ""),
                bisects=bool(properties.get("BisectBatchOnFunctionError", False)),
                max_retries=None if retries < 0 else retries,
                max_age_seconds=None if age < 0 else age,
                on_failure_arn=on_failure,
                patterns=patterns,
            )
        self._problems.append(
            f"resource {name}: event source {source or '(none)'} is not supported locally (SQS "
            "queues and DynamoDB streams are)"
        )
        return None

    def _check_visibility(self, name: str, queue_arn: str, function: str) -> None:
        """Reports a mapping if its queue's visibility timeout is below the function's timeout.

        Lambda refuses such a mapping:
        https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
        """
        queues = self._template.of_type("AWS::SQS::Queue")
        queue = next((key for key in queues if self._scope.get((key, "Arn")) == queue_arn), None)
        timeout = self._timeouts.get(function)
        if queue is None or timeout is None:
            return
        visibility = int(
            self._template.resolve(queues[queue].get("VisibilityTimeout", 30), self._scope)
        )
        if visibility < timeout:
            self._problems.append(
                f"resource {name}: the visibility timeout of {queue} ({visibility} s) is below "
                f"the timeout of {function} ({timeout} s)"
            )

    def _patterns(self, name: str, properties: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        patterns = []
        for criterion in properties.get("FilterCriteria", {}).get("Filters", []):
            try:
                pattern = json.loads(criterion["Pattern"])
                check_pattern(pattern)
                patterns.append(pattern)
            except (ValueError, KeyError) as problem:
                self._problems.append(f"resource {name}: FilterCriteria is not usable: {problem}")
        return tuple(patterns)

    def _rules(self) -> list[Schedule | None]:
        return [
            self._schedule(name, properties, self._target(name, target), "UTC")
            for name, properties in self._each("AWS::Events::Rule")
            if properties.get("State", "ENABLED") == "ENABLED"
            for target in properties.get("Targets", [])
        ]

    def _schedules(self) -> list[Schedule | None]:
        return [
            self._schedule(
                name,
                properties,
                self._target(name, properties.get("Target", {})),
                properties.get("ScheduleExpressionTimezone", "UTC"),
            )
            for name, properties in self._each("AWS::Scheduler::Schedule")
            if properties.get("State", "ENABLED") == "ENABLED"
        ]

    def _target(self, name: str, target: dict[str, Any]) -> dict[str, Any]:
        for key in sorted(set(target) - {"Arn", "Id", "Input", "RoleArn"}):
            self._problems.append(
                f"resource {name}: {key} of a schedule's target is not supported locally"
            )
        return target

    def _schedule(
        self, name: str, properties: dict[str, Any], target: dict[str, Any], zone: str
    ) -> Schedule | None:
        function, event = (
            self._called(f"resource {name}", target.get("Arn", "")),
            target.get("Input"),
        )
        try:
            times = ScheduleTimes.parse(properties.get("ScheduleExpression", ""), zone)
            return Schedule(
                name,
                self._scope[name, "Arn"],
                function,
                times,
                json.loads(event) if event else None,
            )
        except ValueError as problem:
            self._problems.append(f"resource {name}: {problem}")
            return None

    def _called(self, where: str, reference: Any) -> str:
        """Returns the function that an ARN, a URI or a name refers to."""
        text = str(reference)
        uri = _LAMBDA_URI.search(text)
        name = self._by_reference.get(uri["arn"] if uri else text)
        if name is None:
            self._problems.append(f"{where}: {text or '(none)'} is not a function of this template")
        return name or ""

    def _stage_variables(self) -> dict[str, str]:
        stages = [stage for _, stage in self._each("AWS::ApiGatewayV2::Stage")]
        return {
            key: _text(value)
            for stage in stages
            for key, value in stage.get("StageVariables", {}).items()
        }

    def _outputs(self) -> dict[str, str]:
        outputs = {}
        for name, output in self._template.outputs.items():
            value = _text(self._template.resolve(output.get("Value", ""), self._scope))
            # The API's own address becomes the local one in every output.
            outputs[name] = value.replace(
                f"https://local.execute-api.{REGION}.amazonaws.com", self._api_url
            )
        return outputs


def _cors(spec: dict[str, Any] | None) -> Cors | None:
    if not spec:
        return None
    lower = {key[0].lower() + key[1:]: value for key, value in spec.items()}
    return Cors(
        origins=tuple(lower.get("allowOrigins", ())),
        methods=tuple(lower.get("allowMethods", ())),
        headers=tuple(lower.get("allowHeaders", ())),
        exposed=tuple(lower.get("exposeHeaders", ())),
        max_age=lower.get("maxAge"),
        credentials=bool(lower.get("allowCredentials", False)),
    )


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
