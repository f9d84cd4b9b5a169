"""`mayfly doctor`: each of its checks, of projects and of deployed stacks, by its command line."""

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from mayfly import __version__

from mayfly_cli.command import main
from mayfly_cli.new_application import PART, runtime_here
from mayfly_cli.parts import FEATURES, Wanted, _digest, nested
from mayfly_cli.stack_parts import RELEASE
from mayfly_local.application.template import load
from mayfly_testing.stack import ROOT, unbuffered
from tests.support.deployed import DeployedStack

TEMPLATE = (ROOT / "template.yaml").read_text()
RELEASES = {
    path.parent.name: path for path in sorted((ROOT / "tests/releases").glob("*/code.tar.xz"))
}


def doctor(folder: Path, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    """Runs the command in a folder, in this process: a process of its own takes far longer.

    Returns the exit code and the findings.
    """
    out = StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(StringIO()):
        code = main(["doctor", "--json", *arguments])
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


def process(folder: Path, **variables: str) -> tuple[int, list[dict[str, str]]]:
    """Runs the command as a process, with variables."""
    done = subprocess.run(
        [sys.executable, "-m", "mayfly_cli", "doctor", "--json"],
        cwd=folder, env={**unbuffered(), **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def problems(findings: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Returns check and thing of each problem, without the place that has the thing."""
    return [
        (each["check"], each["thing"].split(": ")[-1])
        for each in findings
        if each["weight"] == "problem"
    ]


def whole(folder: Path, text: str = TEMPLATE) -> Path:
    """Makes a project of the repository's own template, without its folders."""
    (folder / "template.yaml").write_text(text.replace("      - layers/mayfly\n", "      []\n"))
    return folder


def shop(folder: Path, *features: str, text: str | None = None) -> Path:
    """Makes a project that nests parts of Mayfly."""
    (folder / "template.yaml").write_text(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  Mayfly:\n"
        "    Type: AWS::Serverless::Application\n    Properties: {Location: mayfly.yaml}\n"
    )
    (folder / "code").mkdir()
    (folder / PART).write_text(
        nested(Wanted(features or ("jobs",), "code", runtime_here(), "")) if text is None else text
    )
    return folder


# ---------------------------------------------------------------- a project that is well


def test_repository_needs_nothing_and_says_what_was_not_checked(tmp_path: Path) -> None:
    code, findings = doctor(tmp_path, "--template", str(ROOT / "template.yaml"))
    assert (code, problems(findings)) == (0, [])
    assert [each["check"] for each in findings if each["weight"] == "not checked"] == ["stack"]
    assert "14 functions, 5 tables, 7 queues" in [
        each["what"].partition(" were")[0] for each in findings
    ]


@pytest.mark.parametrize("features", [*((name,) for name in FEATURES), tuple(FEATURES)])
def test_project_with_parts_of_this_release_needs_nothing(
    tmp_path: Path, features: tuple[str, ...]
) -> None:
    code, findings = doctor(shop(tmp_path, *features))
    assert (code, problems(findings)) == (0, [])


def test_folder_without_a_template_and_a_stack_checks_the_library_only(tmp_path: Path) -> None:
    code, findings = doctor(tmp_path)
    assert code == 0
    assert [(each["weight"], each["check"]) for each in findings] == [
        ("not checked", "template"), ("not checked", "stack")
    ]  # fmt: skip


def test_output_for_people_names_thing_and_action(tmp_path: Path) -> None:
    whole(tmp_path, TEMPLATE.replace("maxReceiveCount: 200", "maxReceiveCount: 50"))
    done = subprocess.run(
        [sys.executable, "-m", "mayfly_cli", "doctor"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        "problem      template.yaml: WebhooksQueue: messages are dead letters after 50 receives, "
        "and this release needs 200\n             -> set maxReceiveCount to 200\n"
    ) in done.stdout
    assert f"\nmayfly {__version__}: 1 to do; 1 not checked\n" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--template", "absent.yaml"],
        ["--endpoint-url", "http://127.0.0.1:1"],
        ["--items", "many"],
        ["--items", "-1"],
        ["extra"],
    ],
)
def test_invalid_call_ends_with_2(tmp_path: Path, arguments: list[str]) -> None:
    assert doctor(tmp_path, *arguments)[0] == 2


def test_template_that_cannot_be_read_is_not_checked(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources: [")
    code, findings = doctor(tmp_path)
    assert (code, findings[0]["weight"], findings[0]["check"]) == (0, "not checked", "template")


def test_package_and_library_of_two_versions_are_a_problem(tmp_path: Path) -> None:
    metadata = tmp_path / "site" / "mayfly_serverless-9.9.9.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: mayfly-serverless\nVersion: 9.9.9\n")
    code, findings = process(tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert (code, problems(findings)) == (1, [("package", "mayfly-serverless")])
    assert findings[0]["what"].startswith("the package is 9.9.9, and the library")


# ---------------------------------------------------------------- each check of a template

PARTITION = "        - {AttributeName: pk, KeyType: HASH}"
CUT = "            FunctionResponseTypes: [ReportBatchItemFailures]\n"
#: Changes of the template, with check and thing of the problem that each one is.
CHANGES: dict[str, tuple[Callable[[str], str], tuple[str, str]]] = {
    "template of an earlier release": (
        lambda text: text.replace(f"{RELEASE}: {__version__}", f"{RELEASE}: 0.1.9"),
        ("release", "Authorizer, AwaitJob"),
    ),
    "template of a later release": (
        lambda text: text.replace(f"{RELEASE}: {__version__}", f"{RELEASE}: 99.0.0"),
        ("release", "Authorizer, AwaitJob"),
    ),
    "template that names no release": (
        lambda text: text.replace(f"        {RELEASE}: {__version__}\n", ""),
        ("release", "Authorizer, AwaitJob"),
    ),
    "bucket that is missing": (
        lambda text: re.sub(
            r"(?ms)^  RelayReports:.*?(?=^  RelayFailures:)", "", text
        ).replace("!Ref RelayReports", "gone").replace("${RelayReports.Arn}", "gone")
        .replace("!GetAtt RelayReports.Arn", "gone"),
        ("missing part", "RelayReports"),
    ),
    "function that is missing": (
        lambda text: re.sub(r"(?ms)^  Schedules:.*?(?=^  SchedulesLog:)", "", text),
        ("missing part", "Schedules"),
    ),
    "table that is missing": (
        lambda text: re.sub(
            r"(?ms)^  EndpointsTable:.*?(?=^  # -)", "", text
        ).replace("!Ref EndpointsTable", "gone").replace("!GetAtt EndpointsTable.Arn", '"*"'),
        ("missing part", "EndpointsTable"),
    ),
    "variable that is missing": (
        lambda text: text.replace("          RELAY_FAILURES_URL: !Ref RelayFailures\n", ""),
        ("variables", "SweepJobs"),
    ),
    "visibility timeout below that of the function": (
        lambda text: text.replace("VisibilityTimeout: 90", "VisibilityTimeout: 60"),
        ("visibility timeout", "JobsQueue"),
    ),
    "queue without a dead-letter queue": (
        lambda text: re.sub(
            r"(?ms)^      RedrivePolicy:\n +deadLetterTargetArn: !GetAtt Uploads.*?10\n", "", text
        ),
        ("dead letters", "UploadsQueue"),
    ),
    "dead letters after too few receives": (
        lambda text: text.replace("maxReceiveCount: 200", "maxReceiveCount: 50"),
        ("dead letters", "WebhooksQueue"),
    ),
    "failures that are not reported": (
        lambda text: text.replace(CUT + "            ScalingConfig: {MaximumConcurrency: !Ref",
                                  "            ScalingConfig: {MaximumConcurrency: !Ref", 1),
        ("failed items", "RunJobs"),
    ),
    "queue that calls no function": (
        lambda text: re.sub(r"(?ms)^        RelayFailures:\n.*?(?=^  BuryJobsLog:)", "\n", text),
        ("mapping", "BuryJobs"),
    ),
    "keys of a table": (
        lambda text: text.replace(
            f"{PARTITION}\n        - {{AttributeName: sk, KeyType: RANGE}}", PARTITION, 1
        ),
        ("keys", "CountersTable"),
    ),
    "index that is missing": (
        lambda text: re.sub(r"(?ms)^        - IndexName: due\n.*?ALL}\n", "", text),
        ("index", "JobsTable"),
    ),
    "index with other keys": (
        lambda text: text.replace(
            "KeySchema: [{AttributeName: due, KeyType: HASH}, {AttributeName: attention_at, ",
            "KeySchema: [{AttributeName: due, KeyType: HASH}, {AttributeName: sk, ",
        ),
        ("index", "JobsTable"),
    ),
    "stream that is missing": (
        lambda text: text.replace("      StreamSpecification: {StreamViewType: NEW_IMAGE}\n", ""),
        ("stream", "JobsTable"),
    ),
    "stream of another view": (
        lambda text: text.replace("StreamViewType: NEW_IMAGE", "StreamViewType: KEYS_ONLY"),
        ("stream", "JobsTable"),
    ),
    "table without TTL": (
        lambda text: text.replace(
            "      TimeToLiveSpecification: {AttributeName: expires_at, Enabled: true}\n", "", 1
        ),
        ("TTL", "TenantsTable"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_template_with_a_fault_has_this_problem_and_no_other(
    tmp_path: Path, change: Callable[[str], str], expected: tuple[str, str]
) -> None:
    changed = change(TEMPLATE)
    assert changed != TEMPLATE
    code, findings = doctor(whole(tmp_path, changed))
    assert code == 1, findings
    ((check, thing),) = problems(findings)
    assert (check, thing[: len(expected[1])]) == expected


def test_queue_that_is_missing_is_a_problem_and_so_is_its_mapping(tmp_path: Path) -> None:
    text = re.sub(r"(?ms)^  UploadsDeadLetters:.*?(?=^  #)", "", TEMPLATE)
    text = text.replace("!GetAtt UploadsDeadLetters.Arn", '"arn:aws:sqs:us-east-1:1:other"')
    code, findings = doctor(whole(tmp_path, text))
    assert code == 1, findings
    assert problems(findings) == [
        ("missing part", "UploadsDeadLetters"),
        ("mapping", "StartImports"),
    ]


def test_shards_of_due_jobs_are_a_note_about_rollbacks(tmp_path: Path) -> None:
    text = re.sub(r'(  DueShards:\n    Type: String\n    Default: )"1"', r'\1"8"', TEMPLATE)
    code, findings = doctor(whole(tmp_path, text))
    (found,) = [each for each in findings if each["check"] == "shards"]
    assert (code, found["weight"]) == (0, "note")
    assert "before a rollback" in found["action"]


@pytest.mark.parametrize("version", RELEASES)
def test_template_of_a_release_has_problems_of_these_kinds(tmp_path: Path, version: str) -> None:
    with tarfile.open(RELEASES[version]) as archive:
        archive.extractall(tmp_path, filter="data")
    code, findings = doctor(tmp_path)
    assert code == 1
    missing = {("missing part", "RelayReports"), ("missing part", "IdentifyCallers")}
    missing |= {("missing part", "Schedules")} if version == "0.1.0" else set()
    found = set(problems(findings))
    assert {each for each in found if each[0] == "missing part"} == missing
    assert {check for check, _ in found} == {
        "release",
        "missing part",
        "mapping",
        "variables",
        "dead letters",
    }


# ---------------------------------------------------------------- each check of a project


def written(text: str, version: str) -> str:
    """Returns a mayfly.yaml as another release writes it."""
    return text.replace(f"Written by mayfly {__version__} ", f"Written by mayfly {version} ")


PART_TEXT = nested(Wanted(("jobs",), "code", runtime_here(), ""))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (written(PART_TEXT, "0.1.9"), ["mayfly.yaml"]),
        (written(PART_TEXT, "99.0.0"), ["mayfly.yaml"]),
        (PART_TEXT + "# mine\n", ["hand edits"]),
        (written(PART_TEXT, "0.1.9") + "# mine\n", ["hand edits", "mayfly.yaml"]),
        (PART_TEXT.partition("\n")[2], ["hand edits"]),
    ],
    ids=["earlier", "later", "edited", "earlier and edited", "no first line"],
)
def test_mayfly_yaml_of_another_release_or_hand_is_a_problem(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    code, findings = doctor(shop(tmp_path, text=text))
    assert (code, [check for check, _ in problems(findings)]) == (1, expected)


def test_mayfly_yaml_of_another_build_of_this_release_is_a_problem(tmp_path: Path) -> None:
    body = PART_TEXT.partition("\n")[2].replace("maxReceiveCount: 200", "maxReceiveCount: 201")
    text = f"# Written by mayfly {__version__} for jobs. Content {_digest(body)}.\n{body}"
    code, findings = doctor(shop(tmp_path, text=text))
    assert (code, [check for check, _ in problems(findings)]) == (1, ["mayfly.yaml"])


def test_mayfly_yaml_is_checked_next_to_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    shop(tmp_path, text=PART_TEXT + "# mine\n")
    template = tmp_path / "template.yaml"
    template.write_text(f"Parameters: {{Needed: {{Type: String}}}}\n{template.read_text()}")
    code, findings = doctor(tmp_path)
    assert (code, [check for check, _ in problems(findings)]) == (1, ["hand edits"])
    assert ("not checked", "template") in [(each["weight"], each["check"]) for each in findings]


@pytest.mark.parametrize(
    ("line", "is_problem"),
    [
        (f"mayfly-serverless~={__version__}", False),
        ("mayfly-serverless", False),
        ("Mayfly_Serverless>=0.1", False),
        ("mayfly-serverless~=0.1.9  # old", True),
        ("mayfly-serverless[flask]==99.0.0", True),
        ("-r other.txt", False),
        ("flask==0.1", False),
    ],
)
def test_requirements_of_another_release_are_a_problem(
    tmp_path: Path, line: str, is_problem: bool
) -> None:
    (shop(tmp_path) / "code" / "requirements.txt").write_text(f"# ours\n{line}\n")
    code, findings = doctor(tmp_path)
    assert (code, problems(findings)) == (
        (1, [("requirements", "code/requirements.txt")]) if is_problem else (0, [])
    )


@pytest.mark.parametrize("place", ["RunJobs", "Mayfly/RunJobs"])
@pytest.mark.parametrize(("built", "is_problem"), [(__version__, False), ("0.1.9", True)])
def test_build_with_another_release_is_a_problem(
    tmp_path: Path, place: str, built: str, is_problem: bool
) -> None:
    folder = shop(tmp_path) / ".aws-sam" / "build" / place / "mayfly"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(f'__version__ = "{built}"\n')
    code, findings = doctor(tmp_path)
    assert (code, [check for check, _ in problems(findings)]) == (
        (1, ["build"]) if is_problem else (0, [])
    )


# ---------------------------------------------------------------- a deployed stack


@contextmanager
def deployed(
    folder: Path, change: Callable[[str], str] = lambda text: text, **options: Any
) -> Iterator[DeployedStack]:
    """Yields the stack `shop` of a changed template."""
    source = folder / "source"
    source.mkdir()
    template = load(whole(source, change(TEMPLATE)) / "template.yaml", cache=source)
    with DeployedStack(template, **options) as stack:
        yield stack


def examined(
    folder: Path, stack: DeployedStack, *arguments: str
) -> tuple[int, list[dict[str, str]]]:
    return doctor(folder, "--stack", "shop", "--endpoint-url", stack.endpoint, *arguments)


def test_deployed_stack_of_this_release_needs_nothing(tmp_path: Path) -> None:
    with deployed(tmp_path) as stack:
        code, findings = examined(tmp_path, stack)
    assert (code, problems(findings)) == (0, [])
    unchecked = [each["check"] for each in findings if each["weight"] == "not checked"]
    assert unchecked == ["template", "library"]


def test_deployed_stack_is_only_read_by_the_actions_of_the_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "upgrade.md").read_text()
    listed = set(re.findall(r"`((?:cloudformation|dynamodb|lambda|sqs):[A-Za-z]+)`", page))
    with deployed(tmp_path) as stack:
        examined(tmp_path, stack)
        assert stack.calls == listed


@pytest.mark.parametrize(
    ("action", "check"),
    [
        ("lambda:GetFunctionConfiguration", "function"),
        ("lambda:GetEventSourceMapping", "mapping"),
        ("sqs:GetQueueAttributes", "queue"),
        ("dynamodb:DescribeTable", "table"),
        ("dynamodb:DescribeTimeToLive", "table"),
        ("dynamodb:Scan", "items"),
    ],
)
def test_what_may_not_be_read_is_not_checked_and_is_no_problem(
    tmp_path: Path, action: str, check: str
) -> None:
    with deployed(tmp_path, denied={action}) as stack:
        code, findings = examined(tmp_path, stack)
    assert (code, problems(findings)) == (0, [])
    refused = [each for each in findings if "refused (AccessDenied" in each["what"]]
    assert {(each["weight"], each["check"]) for each in refused} == {("not checked", check)}


OF_STACKS = [
    "template of an earlier release", "variable that is missing",
    "visibility timeout below that of the function", "dead letters after too few receives",
    "failures that are not reported", "index that is missing", "stream that is missing",
]  # fmt: skip


@pytest.mark.parametrize("name", OF_STACKS)
def test_deployed_stack_with_a_fault_has_this_problem(tmp_path: Path, name: str) -> None:
    change, expected = CHANGES[name]
    with deployed(tmp_path, change) as stack:
        code, findings = examined(tmp_path, stack)
    assert code == 1
    ((check, thing),) = problems(findings)
    assert (check, thing[: len(expected[1])]) == expected


def job(name: str, **more: Any) -> dict[str, Any]:
    return {"pk": {"S": f"acme/{name}"}, "sk": {"S": "job"}, **more}


def test_items_are_counted_by_kind_and_format(tmp_path: Path) -> None:
    items = [job("a"), job("b", v={"N": "1"}), job("c", v={"N": "1"})]
    with deployed(tmp_path, items={"JobsTable": items}) as stack:
        code, findings = examined(tmp_path, stack)
    (found,) = [each for each in findings if each["check"] == "items"]
    assert (code, found["weight"]) == (0, "note")
    assert found["what"].startswith("3 jobs of formats up to 1, 1 of them without a number")


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("JobsTable", job("a", v={"N": "2"})),
        ("JobsTable", {"pk": {"S": "t/schedules"}, "sk": {"S": "schedule/n"}, "v": {"N": "2"}}),
        ("SessionsTable", {"pk": {"S": "t/p"}, "sk": {"S": "session/1"}, "v": {"N": "2"}}),
        ("TenantsTable", {"pk": {"S": "key/1"}, "v": {"N": "2"}}),
    ],
    ids=["job", "schedule", "session", "API key"],
)
def test_item_of_a_later_format_is_a_problem(
    tmp_path: Path, name: str, item: dict[str, Any]
) -> None:
    with deployed(tmp_path, items={name: [item]}) as stack:
        code, findings = examined(tmp_path, stack)
    assert (code, problems(findings)) == (1, [("items", name)])


def test_items_beyond_the_first_ones_are_not_checked_and_said_so(tmp_path: Path) -> None:
    items = {"JobsTable": [job(str(number)) for number in range(5)]}
    with deployed(tmp_path, items=items) as stack:
        _, some = examined(tmp_path, stack, "--items", "3")
        _, every = examined(tmp_path, stack, "--items", "9")
    text = "only the first 3 items were read; --items N reads more"
    assert ("not checked", text) in [(each["weight"], each["what"]) for each in some]
    counts = [each["what"] for each in every if each["check"] == "items"]
    assert [count.partition(" of ")[0] for count in counts] == ["5 jobs"]


def test_stack_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with deployed(tmp_path) as stack:
        done = subprocess.run(
            [sys.executable, "-m", "mayfly_cli", "doctor", "--stack", "absent",
             "--endpoint-url", stack.endpoint],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "the stack 'absent' cannot be used" in done.stderr
