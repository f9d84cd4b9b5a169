"""SAM's transformation of a template, by AWS's own translator, with local folders as code.

The translator accepts only uploaded code and definitions, as `sam package` leaves them. Folders get
a prefix meanwhile, and the files of definitions are put into the template.
"""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mayfly_local.account import REGION
from mayfly_local.application.source import read, read_yaml
from mayfly_local.errors import LocalError, TemplateError

__all__ = ["LOCAL_BUCKET", "translated"]

#: The bucket in place of the folder of the template.
LOCAL_BUCKET: Final = "local"
_LOCAL_CODE: Final = f"s3://{LOCAL_BUCKET}/"
#: Properties that name a local folder or file, by type.
_FOLDERS: Final = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::GraphQLApi": "SchemaUri",
}
#: Definitions: the property with the file's name, and the one with the definition itself.
_DEFINITIONS: Final = {
    "AWS::Serverless::Api": ("DefinitionUri", "DefinitionBody"),
    "AWS::Serverless::HttpApi": ("DefinitionUri", "DefinitionBody"),
    "AWS::Serverless::StateMachine": ("DefinitionUri", "Definition"),
    "AWS::ApiGateway::RestApi": ("BodyS3Location", "Body"),
    "AWS::ApiGatewayV2::Api": ("BodyS3Location", "Body"),
    "AWS::StepFunctions::StateMachine": ("DefinitionS3Location", "Definition"),
}
#: The image of a function whose image is built from its Dockerfile.
_IMAGE: Final = "local:image"

Static = Callable[[Any], Any]


def translated(
    path: Path, source: dict[str, Any], values: dict[str, Any], static: Static, files: set[Path]
) -> dict[str, Any]:
    """Returns a template without resources of SAM. Changes `source`.

    `values` are the parameters' values, and `static` evaluates what depends on nothing else.
    `files` gets every file that is read. Raises TemplateError with SAM's reasons.
    """
    is_transformed = "AWS::Serverless-2016-10-31" in str(source.get("Transform"))
    if not is_transformed and "AWS::Serverless::" in str(source["Resources"]):
        raise TemplateError(
            path,
            ["it has AWS::Serverless resources but no 'Transform: AWS::Serverless-2016-10-31'"],
        )
    # Folders that Globals name are the functions' own.
    shared = source.get("Globals") or {}
    for name, resource in source["Resources"].items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            raise TemplateError(path, [f"resource {name} has no Type"])
        _Preparation(path, static, files, shared).prepare(resource)
    _mark((shared.get("Function") or {}), "CodeUri", static)
    _mark((shared.get("LayerVersion") or {}), "ContentUri", static)
    return _with_local_code(_translate(path, source, values))


def _translate(path: Path, source: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    # The translator takes the region from botocore, and fails without one.
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.translator.transform import transform

    class NoManagedPolicies:
        def load(self) -> dict[str, str]:
            return {}

    # Its logs are about metrics and features of the service that runs it.
    logger = logging.getLogger("samtranslator")
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        result = transform(source, dict(values), NoManagedPolicies())
    except InvalidDocumentException as problem:
        raise TemplateError(path, [str(cause.message) for cause in problem.causes]) from None
    return dict(result)


class _Preparation:
    def __init__(
        self, path: Path, static: Static, files: set[Path], shared: dict[str, Any]
    ) -> None:
        self._path = path
        self._static = static
        self._files = files
        self._shared = shared

    def prepare(self, resource: dict[str, Any]) -> None:
        """Changes a resource to the form that the translator accepts."""
        kind = resource["Type"]
        properties = resource.get("Properties")
        if properties is None:
            properties = resource["Properties"] = {}
        if not isinstance(properties, dict):
            return
        if kind == "AWS::Serverless::Application":
            resource["Type"] = "AWS::CloudFormation::Stack"
            location = properties.pop("Location", None)
            properties["TemplateURL"] = location
        if kind in _DEFINITIONS:
            self._define(properties, *_DEFINITIONS[kind])
        if kind == "AWS::Serverless::Function":
            self._give_code(properties, self._shared.get("Function") or {})
        if kind == "AWS::Serverless::LayerVersion" and "ContentUri" not in {
            *properties, *(self._shared.get("LayerVersion") or {})
        }:  # fmt: skip
            properties["ContentUri"] = "."
        if kind in _FOLDERS:
            _mark(properties, _FOLDERS[kind], self._static)

    def _give_code(self, properties: dict[str, Any], shared: dict[str, Any]) -> None:
        given = {**shared, **properties}
        if given.get("PackageType") == "Image":
            properties.setdefault("ImageUri", given.get("ImageUri", _IMAGE))
        elif not {"CodeUri", "InlineCode", "ImageUri"} & set(given):
            properties["CodeUri"] = "."

    def _define(self, properties: dict[str, Any], uri: str, body: str) -> None:
        """Puts a definition in place of its file's name."""
        location = properties.get(uri)
        if isinstance(location, dict) and "Bucket" not in location:
            location = _static_text(location, self._static)
        if not isinstance(location, str) or location.startswith("s3://"):
            return
        path = self._path.parent / location
        if path.is_file():
            del properties[uri]
            self._files.add(path.resolve())
            properties[body] = read_yaml(path, read(path))
        else:
            properties[uri] = _LOCAL_CODE + location


def _mark(properties: dict[str, Any], key: str, static: Static) -> None:
    """Marks a local folder as code that is uploaded to the bucket `local`."""
    uri = properties.get(key)
    if isinstance(uri, dict) and not {"Bucket", "Key"} & set(uri):
        uri = _static_text(uri, static)
    if isinstance(uri, str) and not re.match(r"s3://|https://", uri):
        properties[key] = _LOCAL_CODE + uri


def _static_text(value: Any, static: Static) -> Any:
    try:
        return static(value)
    except LocalError:
        return value


def _with_local_code(template: dict[str, Any]) -> dict[str, Any]:
    """Returns a template whose plain functions and layers, too, have a folder as local code.

    `aws cloudformation package` accepts a folder in place of the bucket.
    """
    for resource in template["Resources"].values():
        key = {"AWS::Lambda::Function": "Code", "AWS::Lambda::LayerVersion": "Content"}.get(
            resource["Type"], ""
        )
        properties = resource.get("Properties") or {}
        if isinstance(properties.get(key), str):
            properties[key] = {"S3Bucket": LOCAL_BUCKET, "S3Key": properties[key]}
    return template
