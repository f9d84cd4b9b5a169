"""Templates as people write them: what SAM and CloudFormation take, the local runtime takes."""

import json
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from mayfly_local.application.build import build
from mayfly_local.application.classes import table
from mayfly_local.application.model import Application, Function
from mayfly_local.application.template import Template, load
from mayfly_local.application.transformation import unanswered
from mayfly_local.errors import MissingParameters, TemplateError

SAM = "Transform: AWS::Serverless-2016-10-31\n"
FUNCTION = "Type: AWS::Serverless::Function, Properties: {Runtime: python3.13, Handler: app.f"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    return path


def read(folder: Path, text: str, **options: Any) -> Template:
    path = write(folder / "template.yaml", text if "Transform:" in text else SAM + dedent(text))
    return load(path, cache=folder / "cache", **options)


def built(folder: Path, text: str, **options: Any) -> Application:
    return build(read(folder, text, **options), {}, api_url="http://x")


def function(folder: Path, properties: str, more: str = "", **options: Any) -> Function:
    """Returns the function F of a template with these properties."""
    text = f"Resources:\n  F: {{{FUNCTION}, {properties}}}}}\n{more}"
    return built(folder, text, **options).functions["F"]


def absent(application: Application) -> list[str]:
    lines = table(application.parts)
    first = next((at for at, line in enumerate(lines) if line.startswith("absent")), len(lines))
    return [line[10:] for line in lines[first:]]


def test_date_without_quotes_is_the_text_that_it_is_written_as(tmp_path: Path) -> None:
    made = function(
        tmp_path,
        "CodeUri: ., Environment: {Variables: {DAY: 2020-01-02, WHEN: 2020-01-02T03:04:05Z}}",
        "AWSTemplateFormatVersion: 2010-09-09\n",
    )
    assert made.variables == {"DAY": "2020-01-02", "WHEN": "2020-01-02T03:04:05Z"}


def test_code_that_is_one_python_file_is_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "src" / "index.py", "")
    assert function(tmp_path, "CodeUri: src/index.py").code == tmp_path / "src"
    text = f"Resources:\n  F: {{{FUNCTION}, CodeUri: src/gone.py}}}}\n"
    assert absent(built(tmp_path, text)) == ["F: a function: its code src/gone.py does not exist"]


@pytest.mark.parametrize("globals_", ["", "Globals: {Function: {Timeout: 5}}\n"])
def test_code_is_the_folder_of_the_template_if_no_property_names_another(
    tmp_path: Path, globals_: str
) -> None:
    assert function(tmp_path, "Description: none", globals_).code == tmp_path


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("src", "src"),
        ("./src/", "src"),
        ("!Ref Folder", "src"),
        ('!Sub "${Folder}/part"', "src/part"),
        ("!FindInMap [Folders, own, at]", "src"),
    ],
)
def test_folder_of_code_may_be_an_expression_of_parameters_and_mappings(
    tmp_path: Path, uri: str, folder: str
) -> None:
    (tmp_path / "src" / "part").mkdir(parents=True)
    head = """\
Parameters: {Folder: {Type: String, Default: src}}
Mappings: {Folders: {own: {at: src}}}
"""
    assert function(tmp_path, f"CodeUri: {uri}", head).code == tmp_path / folder


def test_plain_function_and_layer_may_name_a_local_folder(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "layer" / "python").mkdir(parents=True)
    application = built(
        tmp_path,
        """
        Resources:
          L: {Type: AWS::Lambda::LayerVersion, Properties: {Content: layer}}
          F:
            Type: AWS::Lambda::Function
            Properties:
              {Runtime: python3.13, Handler: a.b, Code: ./src, Role: x, Layers: [!Ref L]}
        """,
    )
    made = application.functions["F"]
    assert (made.code, made.layers) == (tmp_path / "src", (tmp_path / "layer",))


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ("CodeUri: gone", "F: a function: its code gone does not exist"),
        ("CodeUri: code.zip", "F: a function: its code code.zip is not a folder or a zip archive"),
        ("CodeUri: {Bucket: b, Key: k}", "F: a function: its code is not a local folder"),
        ("CodeUri: s3://b/k", "F: a function: its code is not a local folder"),
        ("Runtime: java21", "F: a function of the runtime java21"),
        ("Runtime: python2.7", "F: a function of the runtime python2.7"),
    ],
)
def test_function_that_cannot_run_is_absent_with_the_reason(
    tmp_path: Path, properties: str, reason: str
) -> None:
    (tmp_path / "code.zip").touch()
    text = f"Resources: {{F: {{{FUNCTION}, CodeUri: '.', {properties}}}}}}}"
    if "Runtime" in properties:
        text = text.replace("Runtime: python3.13, ", "")
    else:
        text = text.replace("CodeUri: '.', ", "")
    assert absent(built(tmp_path, text)) == [reason]


IMAGE = """
Resources:
  F:
    Type: AWS::Serverless::Function
    Metadata: {DockerContext: ./image, Dockerfile: Dockerfile, DockerTag: v1}
    Properties: {PackageType: Image}
"""


@pytest.mark.parametrize(
    ("lines", "folder"),
    [
        (["COPY app.py requirements.txt ./", "RUN pip install -r requirements.txt",
          'CMD ["app.handler"]'], "image"),
        (["# a comment", "COPY src/* ${LAMBDA_TASK_ROOT}/", 'CMD [ "app.handler" ]'], "image/src"),
        (["COPY . ./", 'CMD ["app.none", "x"]', 'CMD ["app.handler"]'], "image"),
        (['ARG FUNCTION_DIR="/var/task"', "COPY app.py ${FUNCTION_DIR}", 'CMD ["app.handler"]'],
         "image"),
        (["ENV ROOT=/var/task", "COPY src/ $ROOT/", 'CMD ["app.handler"]'], "image/src"),
        (["COPY . $LAMBDA_TASK_ROOT", 'ENV A=b \\\n  C=d', 'CMD ["app.handler"]'], "image"),
    ],
)  # fmt: skip
def test_image_with_nothing_but_python_files_runs_as_its_folder(
    tmp_path: Path, lines: list[str], folder: str
) -> None:
    (tmp_path / "image" / "src").mkdir(parents=True)
    text = "\n".join(["FROM public.ecr.aws/lambda/python:3.13", *lines])
    write(tmp_path / "image" / "Dockerfile", text)
    write(tmp_path / folder / "requirements.txt", "")
    made = built(tmp_path, IMAGE).functions["F"]
    assert (made.code, made.handler) == (tmp_path / folder, "app.handler")
    assert made.brings_packages


@pytest.mark.parametrize(
    ("line", "missed"),
    [
        ("RUN dnf install -y gcc-c++", "RUN dnf install -y gcc-c++"),
        ("RUN pip install -r requirements.txt && rm -rf a",
         "RUN pip install -r requirements.txt && rm -rf a"),
        ("RUN pip install -r other.txt", "RUN pip install -r other.txt"),
        ("RUN pip install .", "RUN pip install ."),
        ("RUN pip install --index-url x pandas", "RUN pip install --index-url x pandas"),
        ("RUN pip install --target /opt pandas", "RUN pip install --target /opt pandas"),
        ("RUN pip install pandas==$VERSION", "RUN pip install pandas==$VERSION"),
        ("RUN pip install 'pandas", "RUN pip install 'pandas"),
        ('RUN ["make", "all"]', 'RUN ["make", "all"]'),
        ("RUN echo \\\n  # why\n  one \\\n  two", "RUN echo one two"),
        ("RUN " + "x" * 80, "RUN " + "x" * 56 + " ..."),
        ("ENV PATH=/opt/bin:$PATH", "ENV PATH=/opt/bin:$PATH"),
        ("ENV A='b", "ENV A='b"),
        ("WORKDIR /app", "WORKDIR /app"),
        ("RUN pip install --no-cache-dir -r requirements.txt -t .", None),
        ("RUN python3.13 -m pip install -q --target=${LAMBDA_TASK_ROOT} -r "
         "/var/task/requirements.txt", None),
        ("RUN --mount=type=cache,target=/cache uv pip install --system pandas", None),
        ("RUN pip3 install --upgrade pip && pip install 'pandas[all]>=2' numpy", None),
        ('RUN ["pip", "install", "pandas"]', None),
        ("ENV A=b", None),
        ("ARG A=b", None),
        ("LABEL a=b", None),
        ("WORKDIR ${LAMBDA_TASK_ROOT}", None),
    ],
)  # fmt: skip
def test_line_of_a_dockerfile_without_effect_is_named(
    tmp_path: Path, line: str, missed: str | None
) -> None:
    lines = ["FROM public.ecr.aws/lambda/python:3.13", "COPY . ./", line, 'CMD ["app.handler"]']
    write(tmp_path / "image" / "Dockerfile", "\n".join(lines))
    write(tmp_path / "image" / "requirements.txt", "")
    found = absent(built(tmp_path, IMAGE))
    assert found == ([f"F: line 3 of image/Dockerfile: {missed}"] if missed else [])


def test_function_of_an_image_has_its_variables_packages_and_python(tmp_path: Path) -> None:
    lines = [
        "FROM --platform=linux/arm64 public.ecr.aws/lambda/python:3.9-arm64 AS only",
        "ENV A=1 B='two words' ROOT=$LAMBDA_TASK_ROOT",
        "ENV OLD one two",
        "RUN pip install --upgrade pip wheel && pip install 'pandas>=2' \\",
        "    numpy",
        'CMD ["app.handler"]',
    ]
    write(tmp_path / "image" / "Dockerfile", "\n".join(lines))
    text = IMAGE.replace(
        "PackageType: Image", "PackageType: Image, Environment: {Variables: {A: mine}}"
    )
    made = built(tmp_path, text).functions["F"]
    assert made.variables == {"A": "mine", "B": "two words", "ROOT": "/var/task", "OLD": "one two"}
    assert made.packages == ("pandas>=2", "numpy")
    assert made.runtime == "python3.9"


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ("{Command: [app.other]}", []),
        ("{Command: []}", []),
        ("{Command: [app.other], EntryPoint: [sh], WorkingDirectory: /app}",
         ["F: ImageConfig.EntryPoint", "F: ImageConfig.WorkingDirectory"]),
        ("{Command: [a, b]}",
         ["F: a function of an image: its ImageConfig.Command ['a', 'b'] is not one handler"]),
    ],
)  # fmt: skip
def test_command_of_an_image_is_its_handler_and_other_settings_are_named(
    tmp_path: Path, config: str, found: list[str]
) -> None:
    text = 'FROM public.ecr.aws/lambda/python:3.13\nCMD ["app.handler"]'
    write(tmp_path / "image" / "Dockerfile", text)
    template = IMAGE.replace("PackageType: Image", f"PackageType: Image, ImageConfig: {config}")
    made = built(tmp_path, template)
    assert absent(made) == found
    if "app.other" in config:
        assert made.functions["F"].handler == "app.other"


def test_command_of_an_image_needs_no_cmd(tmp_path: Path) -> None:
    write(tmp_path / "image" / "Dockerfile", "FROM public.ecr.aws/lambda/python:3.13\nCOPY . ./")
    command = "PackageType: Image, ImageConfig: {Command: [app.other]}"
    made = built(tmp_path, IMAGE.replace("PackageType: Image", command))
    assert made.functions["F"].handler == "app.other"


def test_requirements_may_be_copied_next_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "image" / "src").mkdir(parents=True)
    lines = [
        "FROM public.ecr.aws/lambda/python:3.13",
        "COPY requirements.txt ${LAMBDA_TASK_ROOT}",
        "RUN pip install -r requirements.txt",
        "COPY src/ ${LAMBDA_TASK_ROOT}",
        'CMD ["app.handler"]',
    ]
    write(tmp_path / "image" / "Dockerfile", "\n".join(lines))
    write(tmp_path / "image" / "requirements.txt", "# why\npandas>=2  # tables\n\nnumpy\n")
    made = built(tmp_path, IMAGE)
    function = made.functions["F"]
    assert (function.code, absent(made)) == (tmp_path / "image" / "src", [])
    assert function.packages == ("pandas>=2", "numpy")
    write(tmp_path / "image" / "requirements.txt", "-r other.txt")
    missed = "F: line 3 of image/Dockerfile: RUN pip install -r requirements.txt"
    assert absent(built(tmp_path, IMAGE)) == [missed]


def test_arguments_of_an_images_build_come_before_those_of_arg(tmp_path: Path) -> None:
    lines = [
        "ARG PYTHON=3.12",
        "FROM public.ecr.aws/lambda/python:${PYTHON}",
        "ARG A=default B=kept PYTHON",
        "ENV SET=$A-$B-$PYTHON",
        'CMD ["app.handler"]',
    ]
    write(tmp_path / "image" / "Dockerfile", "\n".join(lines))
    template = IMAGE.replace("DockerTag: v1", "DockerBuildArgs: {A: given}")
    function = built(tmp_path, template).functions["F"]
    assert (function.runtime, function.variables) == ("python3.12", {"SET": "given-kept-3.12"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "its image has no Dockerfile here"),
        ("FROM debian\nCMD x", "its image is not AWS's for Python"),
        ("FROM public.ecr.aws/lambda/python:3.13\nADD a.tgz /\nCMD x", "its Dockerfile has ADD"),
        ("FROM public.ecr.aws/lambda/python:3.13\nCOPY a /opt\nCMD [\"a.b\"]",
         "its Dockerfile copies to /opt"),
        ("FROM public.ecr.aws/lambda/python:3.13\nWORKDIR /app\nCOPY a .\nCMD [\"a.b\"]",
         "its Dockerfile copies to . of /app"),
        ("FROM public.ecr.aws/lambda/python:3.13\nCOPY a.py ./", "its Dockerfile has no handler "
         "in CMD"),
        ("FROM public.ecr.aws/lambda/python:3.13\nCOPY a/* b/* ./\nCMD [\"a.b\"]",
         "its Dockerfile copies more than one folder"),
    ],
)  # fmt: skip
def test_function_of_another_image_is_absent(tmp_path: Path, text: str, reason: str) -> None:
    if text:
        for part in ("a", "b"):
            (tmp_path / "image" / part).mkdir(parents=True, exist_ok=True)
        (tmp_path / "image" / "Dockerfile").write_text(text)
    assert absent(built(tmp_path, IMAGE)) == [f"F: a function of an image: {reason}"]


LAYER = "arn:aws:lambda:us-east-1:017000801446:layer"


@pytest.mark.parametrize(
    ("layer", "packages"),
    [
        (f"{LAYER}:AWSLambdaPowertoolsPythonV3-python312-x86_64:7",
         "aws-lambda-powertools[all]>=3,<4"),
        (f"{LAYER}:AWSLambdaPowertoolsPythonV2:32", "aws-lambda-powertools[all]>=2,<3"),
        (f"{LAYER}:AWSLambdaPowertoolsPython:9", "aws-lambda-powertools>=1,<2"),
        (f"{LAYER}:AWSSDKPandas-Python312:1", "awswrangler"),
    ],
)  # fmt: skip
def test_published_layer_of_a_package_is_that_package(
    tmp_path: Path, layer: str, packages: str
) -> None:
    assert function(tmp_path, f'CodeUri: ., Layers: ["{layer}"]').packages == (packages,)


def test_reference_of_a_layer_is_its_arn(tmp_path: Path) -> None:
    folders = tuple(tmp_path / name for name in ("own", "shared", "plain", "next"))
    for folder in folders:
        folder.mkdir()
    application = built(
        tmp_path,
        f"""
        Resources:
          L: {{Type: AWS::Serverless::LayerVersion, Properties: {{ContentUri: own}}}}
          M: {{Type: AWS::Serverless::LayerVersion,
              Properties: {{ContentUri: shared, LayerName: !Sub "words-${{AWS::Region}}"}}}}
          P: {{Type: AWS::Lambda::LayerVersion, Properties: {{Content: plain}}}}
          N: {{Type: AWS::Lambda::LayerVersion, Properties: {{Content: next, LayerName: P}}}}
          F: {{{FUNCTION}, InlineCode: pass, Layers: [!Ref L, !Ref M, !Ref P, !Ref N],
              Environment: {{Variables: {{L: !Ref L, M: !Ref M, P: !Ref P, N: !Ref N,
                GET: !GetAtt P.LayerVersionArn, NAME: !Select [6, !Split [":", !Ref M]]}}}}}}}}
        """,
    )
    made = application.functions["F"]
    start = "arn:aws:lambda:us-east-1:000000000000:layer"
    assert made.variables == {
        "L": f"{start}:L:1", "M": f"{start}:words-us-east-1:1", "P": f"{start}:P:1",
        "N": f"{start}:P:2", "GET": f"{start}:P:1", "NAME": "words-us-east-1",
    }  # fmt: skip
    assert made.layers == folders


def test_layer_that_only_observes_is_accepted_and_another_one_is_absent(tmp_path: Path) -> None:
    text = (
        f"Resources: {{F: {{{FUNCTION}, CodeUri: ., "
        f'Layers: ["{LAYER}:LambdaInsightsExtension:14", "{LAYER}:own:2"]}}}}}}'
    )
    application = built(tmp_path, text)
    assert any("the layer LambdaInsightsExtension" in line for line in table(application.parts))
    assert absent(application) == [
        f"F: the layer {LAYER}:own:2 (give its folder: --layer {LAYER}:own:2=PATH)"
    ]
    for name in (f"{LAYER}:own:2", f"{LAYER}:own", "own"):
        given = built(tmp_path, text, layers={name: tmp_path / "mine"})
        assert (given.functions["F"].layers, absent(given)) == ((tmp_path / "mine",), [])


def test_parameters_without_a_value_are_named_in_one_error_with_the_options(
    tmp_path: Path,
) -> None:
    text = """
    Parameters: {A: {Type: String}, B: {Type: Number}, C: {Type: String, Default: c}}
    Resources: {Q: {Type: AWS::SQS::Queue}}
    """
    with pytest.raises(MissingParameters) as caught:
        read(tmp_path, text)
    assert caught.value.problems == [
        "parameter A has no default: give it with --parameter A=VALUE",
        "parameter B has no default: give it with --parameter B=VALUE",
    ]
    assert list(unanswered(tmp_path / "template.yaml", {"A": "a"})) == ["B"]
    assert read(tmp_path, text, parameters={"A": "a", "B": "2"}).parameters == {
        "A": "a", "B": "2", "C": "c",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("AWS::EC2::VPC::Id", "vpc-0abcdef1234567890"),
        ("List<AWS::EC2::Subnet::Id>", ["subnet-0abcdef1234567890"]),
        ("AWS::EC2::KeyPair::KeyName", "local"),
    ],
)
def test_parameter_that_names_a_thing_of_the_account_needs_no_value(
    tmp_path: Path, kind: str, value: Any
) -> None:
    text = f"Parameters: {{P: {{Type: '{kind}'}}}}\nResources: {{Q: {{Type: AWS::SQS::Queue}}}}"
    template = read(tmp_path, text)
    assert template.parameters == {"P": value}
    assert "P: a parameter that is" in "\n".join(table(template.parts))


STAGE = "Parameters: {Stage: {Type: String}}\nResources: {Q: {Type: AWS::SQS::Queue}}"
SAVED = "version: 0.1\ndefault: {deploy: {parameters: {parameter_overrides: %s}}}\n"


@pytest.mark.parametrize("name", ["samconfig.toml", "samconfig.yaml", "samconfig.yml"])
@pytest.mark.parametrize(
    "saved",
    [
        pytest.param('"Stage=\\"my stage\\" Other=x"', id="text"),
        pytest.param('["Stage=my stage"]', id="list"),
        pytest.param("\"ParameterKey=Stage,ParameterValue='my stage'\"", id="text of the AWS CLI"),
    ],
)
def test_overrides_that_sam_saved_are_read(tmp_path: Path, saved: str, name: str) -> None:
    toml = f"[default.deploy.parameters]\nparameter_overrides = {saved}\n"
    write(tmp_path / name, toml if name.endswith(".toml") else SAVED % saved)
    assert read(tmp_path, STAGE).parameters == {"Stage": "my stage"}
    assert read(tmp_path, STAGE, parameters={"Stage": "own"}).parameters == {"Stage": "own"}
    local = "Metadata: {Mayfly: {LocalParameters: {Stage: here}}}\n" + STAGE
    assert read(tmp_path, local).parameters == {"Stage": "here"}


@pytest.mark.parametrize(
    ("saved", "stage"),
    [
        pytest.param("{Stage: my stage, Other: 1}", "my stage", id="mapping"),
        pytest.param("[Stage: my stage]", "my stage", id="list of mappings"),
        pytest.param("{Stage: 2026-01-01}", "2026-01-01", id="date"),
        pytest.param("{Stage: yes}", "true", id="boolean"),
        pytest.param("{Stage: [a, b]}", "a,b", id="list in a mapping"),
    ],
)
def test_overrides_in_yaml_have_the_texts_of_cloudformation(
    tmp_path: Path, saved: str, stage: str
) -> None:
    write(tmp_path / "samconfig.yaml", SAVED % saved)
    assert read(tmp_path, STAGE).parameters == {"Stage": stage}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("mine.yaml", "Stage: my stage", id="mapping"),
        pytest.param(
            "mine.json", '[{"ParameterKey": "Stage", "ParameterValue": "my stage"}]', id="AWS CLI"
        ),
        pytest.param("mine.json", '["Stage=my stage"]', id="list"),
    ],
)
def test_file_of_overrides_is_read(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path / "samconfig.yaml", SAVED % f'"file://{name}"')
    write(tmp_path / name, content)
    assert read(tmp_path, STAGE).parameters == {"Stage": "my stage"}


def test_stack_has_the_name_of_its_folder_and_not_the_one_of_samconfig(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    saved = '[default.deploy.parameters]\nstack_name = "other"\nparameter_overrides = "Stage=x"\n'
    write(folder / "samconfig.toml", saved)
    assert read(folder, STAGE).name.endswith("shop")
    assert read(folder, STAGE).parameters == {"Stage": "x"}


def test_of_several_samconfig_files_the_first_of_toml_yaml_yml_is_read(tmp_path: Path) -> None:
    write(tmp_path / "samconfig.yml", SAVED % "{Stage: yml}")
    assert read(tmp_path, STAGE).parameters == {"Stage": "yml"}
    write(tmp_path / "samconfig.yaml", SAVED % "{Stage: yaml}")
    assert read(tmp_path, STAGE).parameters == {"Stage": "yaml"}
    write(
        tmp_path / "samconfig.toml", "[default.global.parameters]\nparameter_overrides = 'Stage=t'"
    )
    assert read(tmp_path, STAGE).parameters == {"Stage": "t"}


def test_overrides_of_the_nearest_command_count_most(tmp_path: Path) -> None:
    sections = ["global", "build", "deploy", "local_start_api"]
    for count in range(1, len(sections) + 1):
        settings = {
            command: {"parameters": {"parameter_overrides": {"Stage": command}}}
            for command in sections[:count]
        }
        (tmp_path / "samconfig.yaml").write_text(json.dumps({"default": settings}))
        assert read(tmp_path, STAGE).parameters == {"Stage": sections[count - 1]}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("samconfig.toml", "= nothing", r"samconfig\.toml cannot run here:\n  - it cannot be read"),
        ("samconfig.yaml", "a: [", r"samconfig\.yaml cannot run here:\n  - it is not valid YAML"),
        ("samconfig.yml", SAVED % "nothing", r"'nothing'; an override is NAME=VALUE"),
        ("samconfig.yaml", SAVED % '"file://gone.json"', r"gone\.json cannot run here"),
    ],
)
def test_unreadable_samconfig_is_named(
    tmp_path: Path, name: str, content: str, problem: str
) -> None:
    write(tmp_path / name, content)
    with pytest.raises(TemplateError, match=problem):
        read(tmp_path, STAGE)


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        ("!Ref One", "https://given.example"),
        ("[!Ref One]", ["https://given.example"]),
        ("!Ref Several", ["https://a.example", "https://b.example"]),
    ],
)
def test_parameters_reach_what_the_translator_resolves(
    tmp_path: Path, origins: str, expected: Any
) -> None:
    template = read(
        tmp_path,
        f"""
        Parameters:
          One: {{Type: String, Default: "https://default.example"}}
          Several: {{Type: CommaDelimitedList, Default: "https://a.example, https://b.example"}}
        Globals: {{HttpApi: {{CorsConfiguration: {{AllowOrigins: {origins}}}}}}}
        Resources:
          F:
            Type: AWS::Serverless::Function
            Properties:
              Runtime: python3.13
              Handler: app.f
              Events: {{E: {{Type: HttpApi, Properties: {{Path: /, Method: GET}}}}}}
        """,
        parameters={"One": "https://given.example"},
    )
    body = template.resources["ServerlessHttpApi"]["Properties"]["Body"]
    assert body["x-amazon-apigateway-cors"]["allowOrigins"] == expected


PARAMETERS = """
Parameters:
  Number: {Type: Number, Default: 0}
  Name: {Type: String, Default: by-default}
  Switch: {Type: String, Default: "false"}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.f
      Timeout: !Ref Number
      FunctionName: !Ref Name
      ReservedConcurrentExecutions: !Ref Number
      Environment: {Variables: {NAME: !Ref Name}}
      EventInvokeConfig: {MaximumRetryAttempts: !Ref Number}
      FunctionUrlConfig: {AuthType: NONE, Cors: {AllowOrigins: [!Ref Name]}}
      Events:
        Get: {Type: Api, Properties: {RestApiId: !Ref A, Path: /, Method: GET,
              Auth: {ApiKeyRequired: !Ref Switch}}}
  A: {Type: AWS::Serverless::Api, Properties: {StageName: !Ref Name}}
"""


def test_given_parameters_reach_every_property(tmp_path: Path) -> None:
    given = {"Number": "2", "Name": "given", "Switch": "true"}
    made = built(tmp_path, PARAMETERS, parameters=given)
    of = made.functions["F"]
    assert (of.timeout_seconds, of.limit, of.function_name) == (2, 2, "given")
    assert of.variables == {"NAME": "given"}
    assert of.asynchronous.max_retries == 2
    rest, url = made.apis
    assert rest.stages[0].name == "given"
    assert rest.routes[0].needs_key
    assert url.cors is not None
    assert url.cors.origins == ("given",)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('!Sub "x${AWS::NoValue}y"', "xy"),
        ('!Join ["-", [a, !Ref AWS::NoValue, b]]', "a-b"),
        ('!GetAZs ""', "us-east-1a,us-east-1b,us-east-1c"),
        ("!Select [1, !GetAZs us-east-1]", "us-east-1b"),
        ("!Select [1, !Cidr [10.0.0.0/16, 3, 8]]", "10.0.1.0/24"),
        ("{Fn::Length: [a, b]}", "2"),
        ("{Fn::ToJsonString: {a: [1, !Ref AWS::Region]}}", '{"a":[1,"us-east-1"]}'),
        ("!ImportValue shared-table", "shared-table"),
        ("!FindInMap [M, gone, k, {DefaultValue: d}]", "d"),
        ("!FindInMap [M, !Ref N, k]", "v"),
        ("!Join ['-', [a, !Ref N]]", "a-12"),
        ('!Sub ["${A} ${!B} ${ N }", {A: !Ref AWS::AccountId}]', "000000000000 ${B} 12"),
        ("!If [IsTwelve, a, b]", "a"),
        ("!Select [0, !Split ['|', 'a|b']]", "a"),
        ("!Join ['', [!Ref L]]", "x,y"),
        ("!Base64 hi", "aGk="),
    ],
)
def test_intrinsic_functions_have_cloudformations_value(
    tmp_path: Path, expression: str, expected: str
) -> None:
    head = """\
Parameters: {N: {Type: Number, Default: 12}, L: {Type: CommaDelimitedList, Default: "x, y"}}
Mappings: {M: {"12": {k: v}}}
Conditions: {IsTwelve: !Equals [!Ref N, 12]}
"""
    made = function(tmp_path, f"CodeUri: ., Environment: {{Variables: {{V: {expression}}}}}", head)
    value = made.variables["V"]
    assert value == (str(expected.split(",")) if expression.startswith("!GetAZs") else expected)


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_stack_id_ends_with_a_uuid_of_which_templates_make_a_suffix(tmp_path: Path) -> None:
    uuid = '!Select [2, !Split ["/", !Ref "AWS::StackId"]]'
    suffix = f'!Select [4, !Split ["-", {uuid}]]'
    text = f"CodeUri: ., Environment: {{Variables: {{U: {uuid}, S: {suffix}}}}}"
    made = function(tmp_path, text)
    assert UUID.fullmatch(made.variables["U"])
    assert made.variables["S"] == made.variables["U"][-12:]
    assert function(tmp_path, text) == made


def test_nested_stack_has_an_id_of_its_own(tmp_path: Path) -> None:
    write(
        tmp_path / "nested.yaml",
        "Resources: {Q: {Type: AWS::SQS::Queue}}\nOutputs: {Id: {Value: !Ref AWS::StackId}}",
    )
    text = f"""\
{SAM}Resources:
  Part: {{Type: AWS::CloudFormation::Stack, Properties: {{TemplateURL: nested.yaml}}}}
  F:
    Type: AWS::Serverless::Function
    Properties:
      {{Runtime: python3.13, Handler: app.f, CodeUri: ., Environment: {{Variables: {{
        OWN: !Ref AWS::StackId, REF: !Ref Part, OUTPUT: !GetAtt Part.Outputs.Id}}}}}}
"""
    template = read(tmp_path, text)
    found = build(template, {}, api_url="http://x").functions["F"].variables
    assert found["REF"] == found["OUTPUT"] != found["OWN"]
    assert UUID.fullmatch(found["REF"].rpartition("/")[2])
    assert f":stack/{template.name}-Part/" in found["REF"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('!Select [1, !Split [":", !Select [0, !GetAtt Vpce.DnsEntries]]]', "vpce.absent.invalid"),
        ('!Select [0, !Split ["/", !GetAtt Lb.LoadBalancerFullName]]', "app"),
        ('!Select [1, !Split ["/", !GetAtt Lb.LoadBalancerFullName]]', "shop"),
        ('!Select [0, !Split ["/", !GetAtt Group.TargetGroupFullName]]', "targetgroup"),
        ('!Select [1, !Split ["/", !GetAtt Group.TargetGroupFullName]]', "group"),
        ('!Select [5, !Split [":", !GetAtt Db.MasterUserSecret.SecretArn]]', "secret"),
        ("!GetAtt Db.Endpoint.Address", "db.absent.invalid"),
    ],
)
def test_values_of_absent_parts_can_be_split_as_those_of_aws(
    tmp_path: Path, expression: str, expected: str
) -> None:
    more = """\
  Vpce: {Type: AWS::EC2::VPCEndpoint, Properties: {VpcId: vpc-1}}
  Lb: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Name: shop}}
  Group: {Type: AWS::ElasticLoadBalancingV2::TargetGroup, Properties: {Name: group}}
  Db: {Type: AWS::RDS::DBCluster, Properties: {Engine: aurora}}
"""
    made = function(tmp_path, f"CodeUri: ., Environment: {{Variables: {{V: {expression}}}}}", more)
    assert made.variables["V"] == expected


@pytest.mark.parametrize("index", [2, -1])
def test_select_beyond_a_list_is_a_problem_that_names_the_list(tmp_path: Path, index: int) -> None:
    with pytest.raises(TemplateError, match=rf"no value at index {index} of \['a', 'b'\]"):
        function(
            tmp_path, f"CodeUri: ., Environment: {{Variables: {{V: !Select [{index}, [a, b]]}}}}"
        )


def test_import_can_be_given_and_is_absent_otherwise(tmp_path: Path) -> None:
    variables = "Environment: {Variables: {V: !ImportValue t}}"
    text = f"Resources: {{F: {{{FUNCTION}, CodeUri: ., {variables}}}}}}}"
    assert absent(built(tmp_path, text)) == [
        "Fn::ImportValue: t (give it with --parameter t=VALUE)"
    ]
    given = built(tmp_path, text, parameters={"t": "own"})
    assert (given.functions["F"].variables, absent(given)) == ({"V": "own"}, [])


def test_local_file_is_included_and_a_change_of_it_is_seen(tmp_path: Path) -> None:
    text = """
    Parameters: {Name: {Type: String, Default: part}}
    Resources:
      Q:
        Type: AWS::SQS::Queue
        Properties:
          Fn::Transform: {Name: AWS::Include, Parameters: {Location: !Sub "./${Name}.yaml"}}
          DelaySeconds: 2
    """
    write(tmp_path / "part.yaml", "VisibilityTimeout: 7\nTags: [{Key: a, Value: !Ref Name}]")
    properties = read(tmp_path, text).resources["Q"]["Properties"]
    assert properties == {
        "VisibilityTimeout": 7, "DelaySeconds": 2, "Tags": [{"Key": "a", "Value": {"Ref": "Name"}}],
    }  # fmt: skip
    write(tmp_path / "part.yaml", "VisibilityTimeout: 8")
    assert read(tmp_path, text).resources["Q"]["Properties"]["VisibilityTimeout"] == 8


@pytest.mark.parametrize("location", ["gone.yaml", "s3://bucket/part.yaml"])
def test_included_file_that_is_not_here_is_absent_with_what_it_would_hold(
    tmp_path: Path, location: str
) -> None:
    include = f"{{Fn::Transform: {{Name: AWS::Include, Parameters: {{Location: {location}}}}}}}"
    made = built(
        tmp_path,
        f"""
        Transform: [{{Name: AWS::Include, Parameters: {{Location: {location}}}}}]
        Resources:
          Q: {{Type: AWS::SQS::Queue, Properties: {{Tags: [{include}], QueueName: q}}}}
          R: {{Type: AWS::SQS::Queue, Properties: {include}}}
        """,
    )
    gone = f"Fn::Transform: AWS::Include of {location}, which is not next to the template"
    assert absent(made) == [gone]


def test_api_whose_definition_is_not_here_has_the_routes_of_its_functions(tmp_path: Path) -> None:
    made = built(
        tmp_path,
        """
        Transform: AWS::Serverless-2016-10-31
        Resources:
          Api:
            Type: AWS::Serverless::Api
            Properties:
              StageName: v1
              DefinitionBody:
                Fn::Transform: {Name: AWS::Include, Parameters: {Location: "s3://b/api.yaml"}}
          F:
            Type: AWS::Serverless::Function
            Properties:
              Runtime: python3.13
              Handler: app.f
              Events: {Get: {Type: Api, Properties: {RestApiId: !Ref Api, Path: /, Method: get}}}
        """,
    )
    (api,) = made.apis
    assert [(route.method, route.path) for route in api.routes] == [("GET", "/")]


def test_strict_refuses_an_include_that_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"AWS::Include of gone\.yaml.* is absent"):
        read(
            tmp_path,
            """
            Resources:
              Fn::Transform: {Name: AWS::Include, Parameters: {Location: gone.yaml}}
              Q: {Type: AWS::SQS::Queue}
            """,
            strict=True,
        )


def test_include_of_an_uploaded_file_is_the_file_next_to_the_template(tmp_path: Path) -> None:
    write(tmp_path / "part.yaml", "VisibilityTimeout: 7")
    template = read(
        tmp_path,
        """
        Resources:
          Q:
            Type: AWS::SQS::Queue
            Properties:
              Fn::Transform:
                Name: AWS::Include
                Parameters: {Location: !Sub "s3://${AWS::StackName}/some/part.yaml"}
        """,
    )
    assert template.resources["Q"]["Properties"] == {"VisibilityTimeout": 7}


def test_file_that_includes_itself_is_a_problem(tmp_path: Path) -> None:
    include = "Fn::Transform: {Name: AWS::Include, Parameters: {Location: part.yaml}}"
    write(tmp_path / "part.yaml", include)
    with pytest.raises(TemplateError, match="more than 10 files in files"):
        read(tmp_path, f"Resources:\n  Q: {{Type: AWS::SQS::Queue}}\n  {include}")


def test_loop_repeats_resources(tmp_path: Path) -> None:
    template = read(
        tmp_path,
        """
        Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]
        Parameters: {Names: {Type: CommaDelimitedList, Default: "a,b-c"}}
        Resources:
          Fn::ForEach::Queues:
            - Name
            - !Ref Names
            - Queue&{Name}:
                Type: AWS::SQS::Queue
                Properties: {QueueName: !Ref Name, Tags: [{Key: k, Value: !Sub "of-${Name}"}]}
        """,
    )
    names = {name: made["Properties"]["QueueName"] for name, made in template.resources.items()}
    assert names == {"Queuea": "a", "Queuebc": "b-c"}


NESTED = """
Parameters: {Size: {Type: Number}, Table: {Type: String}, Unused: {Type: String, Default: u}}
Conditions: {Big: !Equals [!Ref Size, 512]}
Transform: AWS::Serverless-2016-10-31
Resources:
  Own: {Type: AWS::SQS::Queue, Condition: Big}
  Never: {Type: AWS::SQS::Queue, Condition: Small}
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.f
      CodeUri: code
      MemorySize: !Ref Size
      Environment:
        Variables:
          TABLE: !Sub "table ${Table} of ${AWS::StackName}"
          SIZE: !If [Big, big, small]
Outputs: {Arn: {Value: !GetAtt F.Arn}}
"""


@pytest.mark.parametrize(
    "stack",
    [
        "Type: AWS::Serverless::Application\n    Properties:\n      Location: part/nested.yaml",
        "Type: AWS::CloudFormation::Stack\n    Properties:\n      TemplateURL: ./part/nested.yaml",
    ],
)
def test_nested_stack_of_a_local_template_is_part_of_the_application(
    tmp_path: Path, stack: str
) -> None:
    (tmp_path / "part" / "code").mkdir(parents=True)
    write(
        tmp_path / "part" / "nested.yaml",
        NESTED.replace("Conditions: {", "Conditions: {Small: !Not [Condition: Big], "),
    )
    parent = f"""\
{SAM}Resources:
  T: {{Type: AWS::DynamoDB::Table}}
  Part:
    {stack}
      Parameters: {{Size: 512, Table: !Ref T}}
  User: {{{FUNCTION}, CodeUri: ., Environment: {{Variables: {{ARN: !GetAtt Part.Outputs.Arn}}}}}}}}
"""
    template = read(tmp_path, parent)
    assert {"PartOwn", "PartF", "User", "T"} <= set(template.resources)
    assert "PartNever" not in template.resources
    application = build(template, {("T", None): "the-table"}, api_url="http://x")
    made = application.functions["PartF"]
    assert (made.code, made.memory_mb) == (tmp_path / "part" / "code", 512)
    assert made.variables == {
        "TABLE": f"table the-table of {template.name}-Part", "SIZE": "big",
    }  # fmt: skip
    assert application.functions["User"].variables == {"ARN": made.arn}


@pytest.mark.parametrize(
    ("given", "condition", "made"),
    [
        ("!Ref Tab", "!Not [!Equals [!Ref T, '']]", True),
        ("!Ref Tab", "!Equals [!Ref T, '']", False),
        ("!GetAtt Tab.Arn", "!Not [!Equals [!Ref T, '']]", True),
        ("!Sub '${Tab}-x'", "!Not [!Equals [!Ref T, '']]", True),
        ("!Ref Named", "!Equals [!Ref T, orders-dev]", True),
        ("!Ref Named", "!Equals [!Sub 'all/${T}', all/orders-dev]", True),
        ("!Ref Named", "!Equals [!Ref T, orders-prod]", False),
        ("!If [IsDev, !Ref Named, '']", "!Equals [!Ref T, orders-dev]", True),
        ("!If [IsProd, !Ref Named, '']", "!Equals [!Ref T, '']", True),
        ("!GetAtt Size.Value", "!Equals [!Ref T, '512']", True),
        ("!GetAtt Other.Outputs.Empty", "!Equals [!Ref T, '']", True),
        ("!GetAtt Other.Outputs.Name", "!Equals [!Ref T, orders-dev]", True),
        ("!GetAtt Elsewhere.Outputs.Name", "!Not [!Equals [!Ref T, '']]", True),
        ("plain", "!Equals [!Ref T, plain]", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("depth", [1, 2])
def test_condition_of_a_nested_stack_has_the_value_that_a_resource_gives(
    tmp_path: Path, given: str, condition: str, made: bool, depth: int
) -> None:
    write(
        tmp_path / "c.yaml",
        f"""\
        Parameters: {{T: {{Type: String, Default: ''}}}}
        Conditions:
          Has: {condition}
          Also: !And [!Condition Has, !Condition Has]
        Resources:
          Q: {{Type: AWS::SQS::Queue, Condition: Has}}
          R: {{Type: AWS::SQS::Queue, Condition: Also}}
        Outputs: {{T: {{Value: !Ref T}}}}
        """,
    )
    write(
        tmp_path / "between.yaml",
        """\
        Parameters: {Passed: {Type: String, Default: ''}}
        Resources:
          Child: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: ./c.yaml,
                  Parameters: {T: !Ref Passed}}}
        """,
    )
    write(
        tmp_path / "other.yaml",
        """\
        Resources: {U: {Type: AWS::DynamoDB::Table, Properties: {TableName: orders-dev}}}
        Outputs: {Empty: {Value: ''}, Name: {Value: !Ref U}}
        """,
    )
    url, parameter = ("c.yaml", "T") if depth == 1 else ("between.yaml", "Passed")
    text = f"""\
{SAM}Parameters: {{Stage: {{Type: String, Default: dev}}}}
Conditions: {{IsDev: !Equals [!Ref Stage, dev], IsProd: !Not [!Condition IsDev]}}
Resources:
  Child: {{Type: AWS::CloudFormation::Stack, Properties: {{TemplateURL: ./{url},
          Parameters: {{{parameter}: {given}}}}}}}
  Other: {{Type: AWS::CloudFormation::Stack, Properties: {{TemplateURL: ./other.yaml}}}}
  Elsewhere: {{Type: AWS::CloudFormation::Stack, Properties: {{TemplateURL: s3://b/x.yaml}}}}
  Tab: {{Type: AWS::Serverless::SimpleTable}}
  Named: {{Type: AWS::DynamoDB::Table, Properties: {{TableName: !Sub 'orders-${{Stage}}'}}}}
  Size: {{Type: AWS::SSM::Parameter, Properties: {{Type: String, Value: '512'}}}}
"""
    resources = read(tmp_path, text).resources
    prefix = "Child" * depth
    assert [f"{prefix}{name}" in resources for name in "QR"] == [made, made]


def test_condition_of_a_nested_stack_has_the_members_of_a_list(tmp_path: Path) -> None:
    write(
        tmp_path / "c.yaml",
        """\
        Parameters: {Names: {Type: CommaDelimitedList}}
        Conditions: {Two: !Equals [!Select [1, !Ref Names], orders]}
        Resources: {Q: {Type: AWS::SQS::Queue, Condition: Two}}
        """,
    )
    text = f"""\
{SAM}Resources:
  Named: {{Type: AWS::DynamoDB::Table, Properties: {{TableName: orders}}}}
  Child: {{Type: AWS::CloudFormation::Stack, Properties: {{TemplateURL: ./c.yaml,
          Parameters: {{Names: !Join [",", [first, !Ref Named]]}}}}}}
"""
    assert "ChildQ" in read(tmp_path, text).resources


@pytest.mark.parametrize(
    "location",
    ["s3://bucket/nested.yaml", "gone.yaml", "{ApplicationId: arn, SemanticVersion: 1.0.0}"],
)
def test_nested_stack_of_another_place_is_absent(tmp_path: Path, location: str) -> None:
    application = built(
        tmp_path,
        f"""
        Resources:
          Part: {{Type: AWS::Serverless::Application, Properties: {{Location: {location}}}}}
          F:
            Type: AWS::Serverless::Function
            Properties:
              Runtime: python3.13
              Handler: app.f
              Environment: {{Variables: {{A: !GetAtt Part.Outputs.Arn}}}}
        """,
    )
    assert absent(application) == ["Part: CloudFormation::Stack"]
    assert application.functions["F"].variables["A"].startswith("arn:aws:cloudformation:")


def test_stack_that_nests_itself_ends(tmp_path: Path) -> None:
    text = """
    Resources:
      Part: {Type: AWS::Serverless::Application, Properties: {Location: template.yaml}}
    """
    assert len(read(tmp_path, text).resources) == 1


def test_definition_in_a_file_is_part_of_the_template(tmp_path: Path) -> None:
    write(tmp_path / "flow.asl.json", '{\n\t"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}')
    template = read(
        tmp_path,
        """
        Resources:
          Flow: {Type: AWS::Serverless::StateMachine, Properties: {DefinitionUri: flow.asl.json}}
          Other: {Type: AWS::Serverless::StateMachine, Properties: {DefinitionUri: gone.json}}
        """,
    )
    assert "StartAt" in str(template.resources["Flow"])


def test_makefile_of_a_function_is_accepted_and_not_run(tmp_path: Path) -> None:
    text = f"Resources: {{F: {{{FUNCTION}, CodeUri: .}}, Metadata: {{BuildMethod: makefile}}}}}}"
    application = built(tmp_path, text)
    assert application.functions["F"].code == tmp_path
    assert "F: BuildMethod makefile: its folder runs as it is" in "".join(table(application.parts))


def test_makefile_that_bundles_the_function_is_not_mentioned(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("build-F:\n\tmayfly bundle F . $(ARTIFACTS_DIR)\n")
    text = f"Resources: {{F: {{{FUNCTION}, CodeUri: .}}, Metadata: {{BuildMethod: makefile}}}}}}"
    assert "makefile" not in "".join(table(built(tmp_path, text).parts))


def test_output_whose_condition_is_false_is_left_out(tmp_path: Path) -> None:
    template = read(
        tmp_path,
        """
        Conditions: {Never: !Equals [a, b]}
        Resources: {Q: {Type: AWS::SQS::Queue, Condition: Never}, R: {Type: AWS::SQS::Queue}}
        Outputs: {Q: {Condition: Never, Value: !Ref Q}}
        """,
    )
    assert template.outputs == {}


def test_output_that_refers_to_nothing_is_absent(tmp_path: Path) -> None:
    application = built(
        tmp_path,
        "Resources: {Q: {Type: AWS::SQS::Queue}}\n"
        "Outputs: {Url: {Value: !Ref Qeue}, A: {Value: a}}",
    )
    assert absent(application) == ["Url: an output: Qeue has no value here"]
    assert application.outputs == {"A": "a"}


def test_macro_is_absent_by_its_name(tmp_path: Path) -> None:
    application = built(
        tmp_path,
        "Transform: [AWS::Serverless-2016-10-31, Own]\nResources: {Q: {Type: AWS::SQS::Queue}}",
    )
    assert absent(application) == ["Transform: the macro Own"]


STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/S"
TABLE_STREAM = "arn:aws:dynamodb:us-east-1:000000000000:table/T/stream/1"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:Q"
#: Answers of the emulator for the sources below.
HELD: dict[tuple[str, str | None], Any] = {
    ("S", "Arn"): STREAM,
    ("T", "StreamArn"): TABLE_STREAM,
    ("Q", "Arn"): QUEUE,
}


def mapped(folder: Path, source: str, more: str) -> Application:
    """Returns an application whose function has an event source."""
    event = f"Events: {{E: {{{source}}}}}"
    text = f"Resources:\n  F: {{{FUNCTION}, InlineCode: pass, {event}}}}}\n{more}"
    return build(read(folder, text), HELD, api_url="http://x")


@pytest.mark.parametrize(
    ("source", "more", "reason"),
    [
        pytest.param(
            "Type: Kinesis, Properties: {Stream: !GetAtt C.ConsumerARN, StartingPosition: LATEST}",
            f"  C: {{Type: AWS::Kinesis::StreamConsumer, Properties: {{ConsumerName: c, "
            f"StreamARN: {STREAM}2}}}}",
            f"{STREAM}2 is not in this template",
            id="consumer of a stream outside",
        ),
        pytest.param(
            "Type: Kinesis, Properties: {Stream: !GetAtt K.Arn, StartingPosition: LATEST}",
            "  K: {Type: AWS::KinesisVideo::Stream}",
            r"arn:aws:kinesisvideo:us-east-1:000000000000:stream/app-.*",
            id="absent stream",
        ),
        pytest.param(
            "Type: DynamoDB, Properties: {Stream: !GetAtt D.StreamArn, StartingPosition: LATEST}",
            "  D: {Type: AWS::DynamoDB::Other}",
            r"arn:aws:dynamodb:us-east-1:000000000000:other/app-.*",
            id="absent table",
        ),
        pytest.param(
            "Type: SQS, Properties: {Queue: !GetAtt D.Arn}",
            "  D: {Type: AWS::SQS::Other}",
            r"arn:aws:sqs:us-east-1:000000000000:other/app-.*",
            id="absent queue",
        ),
        pytest.param(
            f"Type: SQS, Properties: {{Queue: {QUEUE}2}}",
            "",
            f"{QUEUE}2 is not in this template",
            id="queue outside",
        ),
    ],
)
def test_absent_event_source_is_left_out(
    tmp_path: Path, source: str, more: str, reason: str
) -> None:
    application = mapped(tmp_path, source, more)
    assert (application.queues, application.streams) == ((), ())
    assert any(
        re.fullmatch(f"FE: the event source {reason}", line) for line in absent(application)
    ), absent(application)


def test_consumer_of_a_stream_reads_the_stream(tmp_path: Path) -> None:
    application = mapped(
        tmp_path,
        "Type: Kinesis, Properties: {Stream: !GetAtt C.ConsumerARN, StartingPosition: LATEST}",
        """\
  S: {Type: AWS::Kinesis::Stream, Properties: {ShardCount: 1}}
  C: {Type: AWS::Kinesis::StreamConsumer,
      Properties: {ConsumerName: c, StreamARN: !GetAtt S.Arn}}
""",
    )
    assert [stream.stream_arn for stream in application.streams] == [STREAM]
    assert absent(application) == []


@pytest.mark.parametrize(
    "replicas",
    [
        "[{Region: us-east-1, DeletionProtectionEnabled: true}]",
        "[{Region: !Ref AWS::Region, DeletionProtectionEnabled: true}]",
        "[{Region: eu-west-1}, {Region: us-east-1, DeletionProtectionEnabled: true}]",
    ],
    ids=["one", "region by Ref", "several"],
)
def test_global_table_is_a_table(tmp_path: Path, replicas: str) -> None:
    application = mapped(
        tmp_path,
        "Type: DynamoDB, Properties: {Stream: !GetAtt T.StreamArn, StartingPosition: LATEST}",
        f"""\
  T:
    Type: AWS::DynamoDB::GlobalTable
    Properties:
      BillingMode: PROVISIONED
      WriteProvisionedThroughputSettings: {{WriteCapacityAutoScalingSettings: {{}}}}
      AttributeDefinitions: [{{AttributeName: id, AttributeType: S}}]
      KeySchema: [{{AttributeName: id, KeyType: HASH}}]
      StreamSpecification: {{StreamViewType: NEW_IMAGE}}
      Replicas: {replicas}
""",
    )
    assert [stream.stream_arn for stream in application.streams] == [TABLE_STREAM]
    assert absent(application) == []
    table_ = load(tmp_path / "template.yaml", cache=tmp_path / "cache").resources["T"]
    assert table_["Type"] == "AWS::DynamoDB::Table"
    assert table_["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table_["Properties"]["DeletionProtectionEnabled"] is True
    assert not {"Replicas", "WriteProvisionedThroughputSettings"} & set(table_["Properties"])
    replicated = "T: 2 replicas, which are one table here" in "".join(table(application.parts))
    assert replicated == ("eu-west-1" in replicas)


STORED = """\
Parameters:
  P: {Type: AWS::SSM::Parameter::Value<String>, Default: /x/size}
  L: {Type: "AWS::SSM::Parameter::Value<List<String>>", Default: /x/list}
Conditions: {IsBig: !Equals [!Ref P, "256"]}
"""
GIVEN = {"resolve:ssm:/x/size": "256", "resolve:ssm:/x/list": "a, b"}


@pytest.mark.parametrize(
    ("properties", "read", "value"),
    [
        pytest.param("MemorySize: !Ref P", lambda f: f.memory_mb, 256, id="number"),
        pytest.param(
            "Environment: {Variables: {A: !Ref P}}", lambda f: f.variables["A"], "256", id="Ref"
        ),
        pytest.param(
            'Environment: {Variables: {A: !Sub "s-${P}"}}',
            lambda f: f.variables["A"], "s-256", id="Sub",
        ),
        pytest.param(
            "Environment: {Variables: {A: !Select [1, !Ref L]}}",
            lambda f: f.variables["A"], "b", id="list",
        ),
        pytest.param(
            'Environment: {Variables: {A: !Join ["-", !Ref L]}}',
            lambda f: f.variables["A"], "a-b", id="Join",
        ),
        pytest.param("Timeout: !If [IsBig, 7, 8]", lambda f: f.timeout_seconds, 7, id="condition"),
    ],
)  # fmt: skip
def test_parameter_of_systems_manager_has_its_value(
    tmp_path: Path, properties: str, read: Any, value: Any
) -> None:
    made = function(tmp_path, f"InlineCode: pass, {properties}", STORED, parameters=GIVEN)
    assert read(made) == value


def test_names_of_resources_may_be_parameters_of_systems_manager(tmp_path: Path) -> None:
    text = (
        STORED
        + """\
Resources:
  B: {Type: AWS::S3::Bucket, Condition: IsBig, Properties: {BucketName: !Ref P}}
  N: {Type: AWS::S3::Bucket, Condition: IsSmall}
  A: {Type: AWS::Serverless::Api, Properties: {StageName: !Ref P, DefinitionBody: {paths: {}}}}
"""
    )
    text = text.replace("Conditions: {", "Conditions: {IsSmall: !Not [!Condition IsBig], ")
    template = read(tmp_path, text, parameters=GIVEN)
    assert template.resolve(template.resources["B"]["Properties"], {}) == {"BucketName": "256"}
    assert "N" not in template.resources
    (stage,) = template.of_type("AWS::ApiGateway::Stage").values()
    assert template.resolve(stage["StageName"], {}) == "256"


def test_parameter_that_the_template_itself_stores_has_that_value(tmp_path: Path) -> None:
    text = """
    Resources:
      S: {Type: AWS::SSM::Parameter, Properties: {Name: !Sub "/x/${N}", Type: String, Value: "512"}}
    """
    head = STORED.replace("Parameters:\n", "Parameters:\n  N: {Type: String, Default: size}\n")
    head += text.replace("\n    ", "\n").lstrip() + f"  F: {{{FUNCTION}, MemorySize: !Ref P}}}}\n"
    (tmp_path / "app.py").touch()
    application = built(tmp_path, head)
    assert application.functions["F"].memory_mb == 512
    lines = "\n".join(table(application.parts))
    assert "P: the value that this template gives /x/size (AWS needs it before)" in lines


def test_nested_stack_has_parameters_of_systems_manager(tmp_path: Path) -> None:
    write(
        tmp_path / "part.yaml",
        """\
        Transform: AWS::Serverless-2016-10-31
        Parameters:
          Own: {Type: AWS::SSM::Parameter::Value<String>, Default: /x/size}
          Passed: {Type: String}
          Made: {Type: AWS::SSM::Parameter::Value<String>}
          Items: {Type: CommaDelimitedList}
        Resources:
          Q: {Type: AWS::SQS::Queue}
        Outputs:
          All: {Value: !Join ["/", [!Ref Own, !Ref Passed, !Select [1, !Ref Items]]]}
          Made: {Value: !Ref Made}
        """,
    )
    text = (
        STORED
        + """\
Resources:
  Stored: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: made}}
  Part:
    Type: AWS::Serverless::Application
    Properties:
      Location: part.yaml
      Parameters: {Passed: !Ref P, Items: !Ref L, Made: !Ref Stored}
Outputs: {All: {Value: !GetAtt Part.Outputs.All}, Made: {Value: !GetAtt Part.Outputs.Made}}
"""
    )
    template = read(tmp_path, text, parameters=GIVEN)
    scope: dict[tuple[str, str | None], Any] = {("Stored", "Value"): "made"}
    assert template.resolve(template.outputs["All"]["Value"], scope) == "256/256/b"
    assert template.resolve(template.outputs["Made"]["Value"], scope) == "made"


def test_parameter_of_systems_manager_without_a_value_has_a_placeholder(tmp_path: Path) -> None:
    template = read(tmp_path, STORED + "Resources: {Q: {Type: AWS::SQS::Queue}}")
    assert template.resolve({"Ref": "P"}, {}) == "size"
    assert template.resolve({"Ref": "L"}, {}) == ["list-1", "list-2", "list-3"]
    assert [str(stored) for stored in template.unknown] == [
        "it is size here (give it with --parameter resolve:ssm:/x/size=VALUE)",
        "it is list-1,list-2,list-3 here (give it with --parameter resolve:ssm:/x/list=VALUE)",
    ]
    again = read(tmp_path, STORED + "Resources: {Q: {Type: AWS::SQS::Queue}}")
    assert again.unknown == template.unknown  # from the cache


def test_value_of_a_parameter_may_be_a_dynamic_reference(tmp_path: Path) -> None:
    template = read(
        tmp_path,
        "Parameters: {P: {Type: String, Default: '{{resolve:ssm:/x/size}}'}}\n"
        "Resources: {Q: {Type: AWS::SQS::Queue}}",
        parameters=GIVEN,
    )
    assert template.resolve({"Ref": "P"}, {}) == "256"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ("MinValue: 3", "at least 3"),
        ("MaxValue: 1", "at most 1"),
        ("MinValue: 3, MaxValue: 5", "at least 3 and at most 5"),
    ],
)
def test_number_outside_its_limits_is_refused_by_the_limits_there_are(
    tmp_path: Path, limits: str, text: str
) -> None:
    source = f"Parameters: {{N: {{Type: Number, Default: 2, {limits}}}}}\n"
    with pytest.raises(TemplateError, match=f"parameter N is 2; it must be {text}$"):
        read(tmp_path, source + "Resources: {Q: {Type: AWS::SQS::Queue}}")


@pytest.mark.parametrize(
    ("location", "arn", "packages"),
    [
        pytest.param(
            "arn:aws:serverlessrepo:eu-west-1:057560766410:applications/"
            "aws-lambda-powertools-python-layer, SemanticVersion: 2.43.1",
            "AWSLambdaPowertoolsPythonV2:1",
            ("aws-lambda-powertools[all]>=2,<3",),
            id="Powertools by semantic version",
        ),
        pytest.param(
            "arn:aws:serverlessrepo:eu-west-1:057560766410:applications/"
            "aws-lambda-powertools-python-layer-v3-python313-x86-64, SemanticVersion: 3.4.0",
            "AWSLambdaPowertoolsPythonV3:1",
            ("aws-lambda-powertools[all]>=3,<4",),
            id="Powertools by name",
        ),
        pytest.param(
            "arn:aws:serverlessrepo:us-east-1:123456789012:applications/fonts, "
            "SemanticVersion: 1.0.0",
            "fonts:1",
            (),
            id="another",
        ),
    ],
)
def test_layer_of_an_application_from_a_repository_is_a_layer(
    tmp_path: Path, location: str, arn: str, packages: tuple[str, ...]
) -> None:
    application = built(
        tmp_path,
        f"""
        Resources:
          Sar: {{Type: AWS::Serverless::Application,
                Properties: {{Location: {{ApplicationId: {location}}}}}}}
          F: {{{FUNCTION}, InlineCode: pass, Layers: [!GetAtt Sar.Outputs.LayerVersionArn],
              Environment: {{Variables: {{L: !GetAtt Sar.Outputs.LayerVersionArn}}}}}}}}
        """,
    )
    made = application.functions["F"]
    assert made.variables["L"] == f"arn:aws:lambda:us-east-1:000000000000:layer:{arn}"
    assert made.packages == packages
    missing = [line for line in absent(application) if "the layer" in line]
    assert [line.split(" (")[0] for line in missing] == (
        [] if packages else [f"F: the layer {made.variables['L']}"]
    )


ROLE = "AssumeRolePolicyDocument: {}"


@pytest.mark.parametrize(
    ("resource", "value", "expected"),
    [
        pytest.param("AWS::Logs::LogGroup, Properties: {LogGroupName: /my/lg}", "!Ref X",
                     "/my/lg", id="log group"),
        pytest.param("AWS::Logs::LogGroup", "!Ref X", "/aws/lambda/X", id="log group, no name"),
        pytest.param("AWS::Logs::LogGroup, Properties: {LogGroupName: /my/lg}", "!GetAtt X.Arn",
                     "arn:aws:logs:us-east-1:000000000000:log-group:/my/lg:*", id="its ARN"),
        pytest.param(f"AWS::IAM::Role, Properties: {{RoleName: my-role, {ROLE}}}", "!Ref X",
                     "my-role", id="role"),
        pytest.param(f"AWS::IAM::Role, Properties: {{RoleName: r, Path: /p/, {ROLE}}}",
                     "!GetAtt X.Arn", "arn:aws:iam::000000000000:role/p/r", id="role with path"),
        pytest.param("AWS::ApiGateway::DomainName, Properties: {DomainName: api.example.com}",
                     "!Ref X", "api.example.com", id="domain of a REST API"),
        pytest.param("AWS::ApiGatewayV2::DomainName, Properties: "
                     "{DomainName: !Sub 'v2.${AWS::Region}.example.com'}",
                     "!Ref X", "v2.us-east-1.example.com", id="domain of an HTTP API"),
        pytest.param("AWS::Cognito::UserPoolDomain, Properties: {Domain: login}", "!Ref X",
                     "login", id="domain of a user pool"),
        pytest.param("AWS::Scheduler::Schedule, Properties: {Name: nightly, ScheduleExpression: "
                     "rate(1 day), Target: {Arn: 'arn:aws:sqs:us-east-1:000000000000:q'}}",
                     "!Ref X", "nightly", id="schedule"),
        pytest.param("AWS::Cognito::UserPool", "!GetAtt X.ProviderName",
                     r"cognito-idp\.us-east-1\.amazonaws\.com/us-east-1_[0-9a-f]{9}",
                     id="provider of a user pool"),
    ],
)  # fmt: skip
def test_reference_has_the_name_that_the_template_gives(
    tmp_path: Path, resource: str, value: str, expected: str
) -> None:
    made = function(
        tmp_path, f"InlineCode: pass, Environment: {{Variables: {{A: {value}}}}}",
        f"  X: {{Type: {resource}}}\n",
    )  # fmt: skip
    assert made.variables["A"] == expected or re.fullmatch(expected, made.variables["A"])


def test_role_with_a_name_has_the_policies_that_name_it(tmp_path: Path) -> None:
    policy = "PolicyDocument: {Statement: {Effect: Allow, Action: 'sqs:*', Resource: '*'}}"
    made = function(
        tmp_path,
        "InlineCode: pass, Role: !GetAtt R.Arn",
        f"  R: {{Type: AWS::IAM::Role, Properties: {{RoleName: my-role, {ROLE}}}}}\n"
        f"  P: {{Type: AWS::IAM::Policy, Properties: {{PolicyName: p, {policy}, "
        "Roles: [!Ref R]}}\n",
    )
    assert made.role is not None
    assert len(made.role.documents) == 1


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        pytest.param(
            "  M: {Type: AWS::Lambda::EventSourceMapping, Properties: {FunctionName: !Ref F, "
            "Topics: [t], SelfManagedEventSource: {Endpoints: "
            "{KafkaBootstrapServers: ['a.example.com:9092']}}}}\n",
            "M: the event source Apache Kafka at a.example.com:9092",
            id="Kafka",
        ),
        pytest.param(
            "  S: {Type: AWS::Scheduler::Schedule, Properties: {ScheduleExpression: rate(1 day), "
            "FlexibleTimeWindow: {Mode: 'OFF'}, Target: {RoleArn: r, "
            "Arn: 'arn:aws:states:us-east-1:000000000000:stateMachine:M'}}}\n",
            "S: the target arn:aws:states:us-east-1:000000000000:stateMachine:M",
            id="schedule of a state machine",
        ),
        pytest.param(
            "  S: {Type: AWS::Scheduler::Schedule, Properties: {ScheduleExpression: rate(1 day), "
            "FlexibleTimeWindow: {Mode: 'OFF'}, Target: {RoleArn: r, "
            "Arn: 'arn:aws:lambda:us-east-1:000000000000:function:gone'}}}\n",
            "S: arn:aws:lambda:us-east-1:000000000000:function:gone is not a function that runs "
            "here",
            id="schedule of another function",
        ),
    ],
)
def test_table_names_what_an_absent_source_or_target_is(
    tmp_path: Path, resource: str, line: str
) -> None:
    text = f"Resources:\n  F: {{{FUNCTION}, InlineCode: pass}}}}\n{resource}"
    assert line in absent(built(tmp_path, text))


def test_key_of_a_kind_that_the_emulator_cannot_make_is_absent(tmp_path: Path) -> None:
    text = """
    Resources:
      K: {Type: AWS::KMS::Key, Properties: {KeySpec: ML_DSA_44, KeyUsage: SIGN_VERIFY}}
    Outputs:
      Key: {Value: !GetAtt K.Arn}
    """
    assert list(read(tmp_path, text).state()) == []
    made = built(tmp_path, text)
    assert absent(made) == ["K: KMS::Key (ML_DSA_44)"]
