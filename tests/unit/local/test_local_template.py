"""Templates: which resources run here, and how the rest is rejected."""

from pathlib import Path
from textwrap import dedent, indent

import pytest

from mayfly_local.application.build import build
from mayfly_local.application.classes import table
from mayfly_local.application.template import load
from mayfly_local.compute.packages import python_path
from mayfly_local.errors import TemplateError


def template(folder: Path, resources: str, head: str = "") -> Path:
    path = folder / "template.yaml"
    path.write_text(
        f"Transform: AWS::Serverless-2016-10-31\n{dedent(head)}Resources:\n"
        + indent(dedent(resources), "  ")
    )
    (folder / "code").mkdir(exist_ok=True)
    return path


def problems(path: Path, **parameters: str) -> list[str]:
    with pytest.raises(TemplateError) as caught:
        load(path, cache=path.parent / "cache", parameters=parameters)
    assert str(caught.value).startswith(f"{path} cannot run here:")
    return caught.value.problems


def test_every_resource_has_a_class_and_so_has_a_property_that_does_not_run(
    tmp_path: Path,
) -> None:
    path = template(
        tmp_path,
        """
        Flow: {Type: AWS::StepFunctions::StateMachine}
        Typo: {Type: AWS::SQS::Quue}
        Alarm: {Type: AWS::CloudWatch::Alarm, Properties: {Colour: blue}}
        Queue: {Type: AWS::SQS::Queue, Properties: {KmsMasterKeyId: x, Colour: blue}}
        Other: {Type: AWS::SQS::Queue}
        """,
    )
    assert table(load(path, cache=tmp_path / "cache").parts) == [
        "runs      SQS::Queue 2",
        "accepted  CloudWatch::Alarm, Queue.KmsMasterKeyId (SQS::Queue) (without effect here)",
        "absent    Flow: StepFunctions::StateMachine",
        "          Typo: SQS::Quue",
        "          Queue.Colour (SQS::Queue)",
    ]


def test_strict_refuses_what_is_absent_and_passes_what_is_accepted(tmp_path: Path) -> None:
    path = template(
        tmp_path,
        """
        Flow: {Type: AWS::StepFunctions::StateMachine}
        Alarm: {Type: AWS::CloudWatch::Alarm}
        Queue: {Type: AWS::SQS::Queue, Properties: {KmsMasterKeyId: x, Colour: blue}}
        """,
    )
    with pytest.raises(TemplateError) as caught:
        load(path, cache=tmp_path / "cache", strict=True)
    assert caught.value.problems == [
        "Flow: StepFunctions::StateMachine is absent on this machine (--strict)",
        "Queue.Colour (SQS::Queue) is absent on this machine (--strict)",
    ]


def test_function_in_another_language_is_absent_and_the_rest_runs(tmp_path: Path) -> None:
    path = template(
        tmp_path,
        """
        Other:
          Type: AWS::Serverless::Function
          Properties: {CodeUri: code, Handler: a.b, Runtime: nodejs22.x}
        Own:
          Type: AWS::Serverless::Function
          Properties:
            CodeUri: code
            Handler: a.b
            Runtime: python3.13
            Environment: {Variables: {OTHER: !GetAtt Other.Arn, FLOW: !Ref Flow}}
        Flow: {Type: AWS::StepFunctions::StateMachine}
        """,
    )
    loaded = load(path, cache=tmp_path / "cache")
    application = build(loaded, {}, api_url="http://x")
    assert set(application.functions) == {"Own"}
    assert application.functions["Own"].variables["OTHER"].endswith(":function:Other")
    flow = application.functions["Own"].variables["FLOW"]
    assert flow.startswith("arn:aws:states:us-east-1:000000000000:stateMachine:"), flow
    assert table(application.parts) == [
        "runs      Lambda::Function",
        "accepted  IAM::Role 2 (without effect here)",
        "absent    Flow: StepFunctions::StateMachine",
        "          Other: a function of the runtime nodejs22.x",
    ]
    with pytest.raises(TemplateError) as caught:
        build(loaded, {}, api_url="http://x", strict=True)
    assert "Other: a function of the runtime nodejs22.x is absent" in str(caught.value)


def test_resource_whose_condition_is_false_is_absent(tmp_path: Path) -> None:
    path = template(
        tmp_path,
        "Topic: {Type: AWS::SNS::Topic, Condition: Never}\nQueue: {Type: AWS::SQS::Queue}",
        head="Conditions: {Never: !Equals [a, b]}\n",
    )
    assert set(load(path, cache=tmp_path / "cache").resources) == {"Queue"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Resources: [", "it is not valid YAML"),
        ("Description: x", "it has no Resources"),
        ("Resources: {A: {}}", "resource A has no Type"),
        (
            "Resources:\n  A: {Type: AWS::Serverless::Function}",
            "no 'Transform: AWS::Serverless-2016-10-31'",
        ),
        (
            "Transform: AWS::Serverless-2016-10-31\nResources:\n  A: {Type: "
            "AWS::Serverless::Function, Properties: {Colour: 1}}",
            "Colour",
        ),
    ],
)
def test_invalid_template_is_rejected_with_the_reason(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(text)
    assert any(problem in reported for reported in problems(path))


@pytest.mark.parametrize(
    ("properties", "problem"),
    [
        ("Timeout: abc", "resource A"),
        ("MemorySize: [1]", "resource A"),
        ("Timeout: 901", "resource A: Timeout 901 is not from 1 to 900 seconds"),
        ("MemorySize: 64", "resource A: MemorySize 64 is not from 128 to 10240 MB"),
        ("Environment: {Variables: [a]}", "resource A"),
        ("Environment: {Variables: {X: !Select [5, [a]]}}", "resource A"),
        ("Environment: {Variables: {X: !Join x}}", "resource A"),
        ("Environment: {Variables: {X: !Ref Gone}}", "resource A: Gone has no value here"),
        ("Environment: {Variables: {X: {Ref: [1]}}}", ""),
        ("Events: {E: {Type: HttpApi, Properties: {Path: x, Method: GET}}}", ""),
        ("Events: {E: {Type: HttpApi, Properties: {Path: /x, Method: FLY}}}",
        "is not a method of an HTTP API"),
        ("Events: {E: {Type: SQS, Properties: {Queue: !GetAtt Q.Arn}}}\nTimeout: 60",
        "the visibility timeout of Q (30 s) is below the timeout of A (60 s)"),
        ("Events: {E: {Type: Schedule, Properties: {Schedule: often}}}",
        "the schedule 'often' is not"),
        ("hi", ""),
    ],
)  # fmt: skip
def test_unusable_value_is_a_problem_and_not_a_stack_trace(
    tmp_path: Path, properties: str, problem: str
) -> None:
    head = (
        "" if properties == "hi" else "Runtime: python3.13\nHandler: app.handler\nCodeUri: code\n"
    )
    path = template(
        tmp_path,
        "Q: {Type: AWS::SQS::Queue}\nA:\n  Type: AWS::Serverless::Function\n  Properties:\n"
        + indent(head + properties, "    "),
    )
    with pytest.raises(TemplateError) as caught:
        build(
            load(path, cache=tmp_path / "cache"),
            {("Q", None): "url", ("Q", "Arn"): "arn:aws:sqs:us-east-1:0:q"},
            api_url="http://x",
        )
    assert problem in str(caught.value)


def test_template_that_is_not_text_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_bytes(b"Resources: \xff")
    assert problems(path) == ["it is not UTF-8 (invalid start byte at byte 11)"]


def test_missing_template_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path / "template.yaml") == ["it cannot be read: No such file or directory"]


def test_parameters_need_a_value_and_a_declaration(tmp_path: Path) -> None:
    path = template(
        tmp_path, "Queue: {Type: AWS::SQS::Queue}", head="Parameters: {Stage: {Type: String}}\n"
    )
    assert problems(path, Colour="x") == [
        "there is no parameter Colour",
        "parameter Stage has no default: give it with --parameter Stage=VALUE",
    ]
    assert load(path, cache=tmp_path / "cache", parameters={"Stage": "dev"}).parameters == {
        "Stage": "dev"
    }


def test_transformed_template_is_cached_by_content(tmp_path: Path) -> None:
    path = template(tmp_path, "Queue: {Type: AWS::SQS::Queue}")
    first = load(path, cache=tmp_path / "cache")
    path.write_text(path.read_text().replace("Queue:", "Other:"))
    assert (set(first.resources), set(load(path, cache=tmp_path / "cache").resources)) == (
        {"Queue"},
        {"Other"},
    )
    assert len(list((tmp_path / "cache" / "templates").iterdir())) == 2


def test_role_that_cannot_be_checked_is_named(tmp_path: Path) -> None:
    path = template(
        tmp_path,
        """
        F:
          Type: AWS::Serverless::Function
          Properties: {Runtime: python3.13, Handler: a.b, CodeUri: code, Role: !GetAtt R.Arn}
        R:
          Type: AWS::IAM::Role
          Properties:
            AssumeRolePolicyDocument: {}
            PermissionsBoundary: arn:aws:iam::aws:policy/ReadOnlyAccess
            Policies:
              - PolicyName: p
                PolicyDocument:
                  Statement:
                    Effect: Deny
                    Action: "dynamodb:*"
                    NotResource: "arn:aws:dynamodb:*:*:table/T"
        """,
    )
    application = build(load(path, cache=tmp_path / "cache"), {}, api_url="http://127.0.0.1:3000")
    assert application.functions["F"].role is None
    assert table(application.parts)[-1] == (
        "absent    R: PermissionsBoundary: its calls are not checked"
    )


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("{Mayfly: {Library: [code]}}",
        "Metadata Mayfly: the key Library is not known (known: AfterDeploy, Libraries, "
        "LocalParameters)"),
        ("{Mayfly: {Libraries: code}}", "Metadata Mayfly: Libraries is not a list of texts"),
        ("{Mayfly: {Libraries: [{a: b}]}}", "Metadata Mayfly: Libraries is not a list of texts"),
        ("{Mayfly: {Libraries: [gone]}}",
        "Metadata Mayfly: Libraries has gone, which is not a folder"),
        ("{Mayfly: {AfterDeploy: echo}}", "Metadata Mayfly: AfterDeploy is not a list of texts"),
        ("{Mayfly: {LocalParameters: [a]}}",
        "Metadata Mayfly: LocalParameters is not a mapping of names to values"),
        ("{Mayfly: here}", "Metadata or its part Mayfly is not a mapping"),
        ("here", "Metadata or its part Mayfly is not a mapping"),
    ],
)  # fmt: skip
def test_unusable_metadata_is_a_problem_that_names_the_key(
    tmp_path: Path, metadata: str, problem: str
) -> None:
    path = template(tmp_path, "Q: {Type: AWS::SQS::Queue}", head=f"Metadata: {metadata}\n")
    assert problems(path) == [problem]


def test_libraries_are_on_the_path_of_functions_that_a_makefile_builds(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    path = template(
        tmp_path,
        """
        Layer: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: layer}}
        Made: {Type: AWS::Serverless::Function, Metadata: {BuildMethod: makefile}}
        Copied: {Type: AWS::Serverless::Function, Metadata: {SkipBuild: true}}
        Plain: {Type: AWS::Serverless::Function}
        """,
        head="""
        Metadata: {Mayfly: {Libraries: [library]}}
        Globals:
          Function: {Runtime: python3.13, CodeUri: code, Handler: a.b, Layers: [!Ref Layer]}
        """,
    )
    (tmp_path / "layer" / "python").mkdir(parents=True)
    functions = build(load(path, cache=tmp_path / "cache"), {}, api_url="http://x").functions
    assert {name: function.libraries for name, function in functions.items()} == {
        "Made": (tmp_path / "library",),
        "Copied": (),
        "Plain": (),
    }
    made = functions["Made"]
    assert python_path(
        tmp_path / "code",
        (*made.libraries, *made.layers),
        brings_packages=False,
        cache=tmp_path / "cache",
    ) == ([tmp_path / "code", tmp_path / "library", tmp_path / "layer" / "python"], [])
