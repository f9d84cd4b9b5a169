"""The parts of Mayfly for another application: complete, and those of the repository's template."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from mayfly_cli.new_application import FOLDER, PART, part
from mayfly_cli.parts import FEATURES, Wanted, is_as_written, nested
from mayfly_testing.stack import ROOT

OWN: Mapping[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]
#: The front page of the repository's own application.
OF_THE_PAGE = {"Hello", "HelloLog", "HelloRole"}
CHOICES = [(name,) for name in FEATURES] + [
    ("counters", "jobs"),
    ("limits", "sessions"),
    (*FEATURES,),
]


def written(*features: str) -> str:
    return nested(Wanted(features, code="src", runtime="python3.12", tasks="shop.tasks"))


def parsed(*features: str) -> dict[str, Any]:
    template: dict[str, Any] = yaml_parse(written(*features))
    return template


def referred(value: Any) -> Iterator[str]:
    """Yields each name that expressions of a value refer to."""
    if isinstance(value, list):
        for member in value:
            yield from referred(member)
    elif isinstance(value, dict):
        for key, member in value.items():
            if key in ("Ref", "DependsOn") and isinstance(member, str):
                yield member
            elif key == "Fn::GetAtt":
                yield member[0] if isinstance(member, list) else member.split(".")[0]
            elif key == "Fn::Sub":
                yield from re.findall(r"\$\{(\w+)[.}]", str(member))
            else:
                yield from referred(member)


@pytest.mark.parametrize("features", CHOICES, ids=", ".join)
def test_every_reference_of_the_parts_is_within_them(features: tuple[str, ...]) -> None:
    template = parsed(*features)
    known = {*template["Resources"], *template["Parameters"]}
    sections = {key: template[key] for key in ("Conditions", "Globals", "Resources", "Outputs")}
    assert {name for name in referred(sections) if not name.startswith("AWS::")} <= known
    assert set(template["Parameters"]) <= set(referred(sections))


@pytest.mark.parametrize("features", CHOICES, ids=", ".join)
def test_resource_is_the_one_of_the_repository(features: tuple[str, ...]) -> None:
    """Only the code of functions differs, and what belongs to features that are not wanted."""
    for name, resource in parsed(*features)["Resources"].items():
        own = dict(OWN[name])
        if resource["Type"] == "AWS::Serverless::Function":
            handler = f"mayfly_functions.{own['Properties']['Handler']}"
            own["Properties"] = {**own["Properties"], "CodeUri": "src", "Handler": handler}
            module = handler.split(".")[1]
            assert (ROOT / "functions" / module / "main.py").exists()
        if name in ("RunJobs", "RunJobsRole") and "imports" not in features:
            assert "ImportsBucket" in str(own)
            assert "ImportsBucket" not in str(resource)
        elif resource["Type"] == "AWS::CloudWatch::Alarm":
            own["Properties"] = dict(own["Properties"])
            kept, own_metrics = (each["Properties"].pop("Metrics") for each in (resource, own))
            assert [query for query in own_metrics if query in kept] == kept
            assert kept[0] == own_metrics[0]
            assert resource == own
        else:
            assert resource == own


@pytest.mark.parametrize("features", CHOICES, ids=", ".join)
def test_function_gets_every_variable_that_it_must_have(features: tuple[str, ...]) -> None:
    for resource in parsed(*features)["Resources"].values():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        folder = resource["Properties"]["Handler"].split(".")[1]
        settings = import_module(f"functions.{folder}.deps").Settings
        required = {
            field.name.upper()
            for field in dataclasses.fields(settings)
            if field.default is dataclasses.MISSING
        }
        assert required <= set(resource["Properties"]["Environment"]["Variables"])


def test_alarm_has_the_metrics_of_the_parts_and_of_no_other() -> None:
    (errors,) = (
        found for name, found in parsed("sessions")["Resources"].items() if name == "ApiErrors"
    )
    names = [
        query["MetricStat"]["Metric"]["Dimensions"][0]["Value"]
        for query in errors["Properties"]["Metrics"][1:]
    ]
    assert names == [{"Ref": name} for name in ("Sessions", "Authorizer", "IdentifyCallers")]
    assert "JobsStuck" not in parsed("sessions")["Resources"]


def test_all_features_together_are_the_whole_template_but_its_page() -> None:
    assert set(parsed(*FEATURES)["Resources"]) == set(OWN) - OF_THE_PAGE


def test_feature_leaves_out_what_only_others_have() -> None:
    assert "JobsTable" not in parsed("sessions")["Resources"]
    assert "SessionsTable" not in parsed("jobs")["Resources"]
    assert "ImportsBucket" not in parsed("jobs")["Resources"]
    # Every job may be a webhook.
    assert "DeliverWebhooks" in parsed("jobs")["Resources"]


def test_outputs_name_the_tables_and_queues_that_an_application_uses() -> None:
    assert set(parsed(*FEATURES)["Outputs"]) == {
        "ApiUrl", "AuthorizerArn", "CountersTableArn", "CountersTableName", "ImportsBucketArn",
        "ImportsBucketName", "JobsQueueArn", "JobsQueueUrl", "JobsTableArn", "JobsTableName",
        "SessionsTableArn", "SessionsTableName", "SubjectKey",
    }  # fmt: skip
    assert set(parsed("counters")["Outputs"]) == {
        "ApiUrl", "AuthorizerArn", "CountersTableArn", "CountersTableName",
    }  # fmt: skip


def test_application_gives_the_runtime_and_the_package_of_its_tasks() -> None:
    function = parsed("jobs")["Globals"]["Function"]
    assert function["Runtime"] == "python3.12"
    assert function["Environment"]["Variables"]["MAYFLY_TASKS"] == "shop.tasks"
    without = yaml_parse(nested(Wanted(("counters",), code="src", runtime="python3.12")))
    assert "MAYFLY_TASKS" not in without["Globals"]["Function"]["Environment"]["Variables"]


def test_text_has_no_aliases_and_keeps_the_comments() -> None:
    text = written("jobs")
    assert not re.search(r"(?m)[:\s][&*][a-z]", re.sub(r"(?m)#.*$", "", text))
    assert "# An outage of SQS must not lose an accepted job" in text


def test_unknown_feature_is_named() -> None:
    with pytest.raises(ValueError, match="no feature is called mails; there are counters, limits"):
        written("jobs", "mails")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", True),
        ("python3.12", "python3.14", True),
        ("shop.tasks", "store.tasks", True),
        ("CodeUri: src", "CodeUri: backend", True),
        ("MemorySize: 512", "MemorySize: 1024", False),
        ("# Written by mayfly", "# Written by hand", False),
    ],
    ids=["unchanged", "runtime", "tasks", "folder", "memory", "header"],
)
def test_change_by_hand_is_noticed(old: str, new: str, *, expected: bool) -> None:
    text = written("counters", "jobs")
    assert old in text
    assert is_as_written(text.replace(old, new)) is expected


def test_starter_has_the_parts_of_this_template() -> None:
    assert (FOLDER / PART).read_text() == part(), "run: make starter"
