"""`mayfly add` and `mayfly template`: what they change in a project, and input that they refuse."""

import os
import re
import shutil
import stat
import subprocess
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from mayfly import __version__
from samtranslator.yaml_helper import yaml_parse

from mayfly_cli.command import main
from mayfly_cli.file_set import write_all
from mayfly_cli.new_application import MAKEFILE, runtime_here
from mayfly_cli.parts import FEATURES, _digest, is_as_written, nested, wanted
from mayfly_cli.template_text import Entry, TemplateText
from mayfly_local.errors import LocalError
from mayfly_testing.stack import ROOT

SAM = ROOT / ".venv-sam" / "bin" / "sam"
STARTER = ROOT / "tests" / "apps" / "sam_init"
HEAD = "Transform: AWS::Serverless-2016-10-31\n"
A = "Resources:\n  A:\n    Type: AWS::SNS::Topic\n"
RESOURCE = (
    "  Mayfly:\n    Type: AWS::Serverless::Application\n"
    "    Properties:\n      Location: mayfly.yaml\n"
)
OUTPUT = (
    "  MayflyUrl:\n    Description: The URL of Mayfly's API.\n"
    "    Value: !GetAtt Mayfly.Outputs.ApiUrl\n"
)
OUTPUTS = f"Outputs:\n{OUTPUT}"


def run(command: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder, in this process: a process of its own takes far longer."""
    out, err = StringIO(), StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        code = main([command, *arguments])
    return subprocess.CompletedProcess([command, *arguments], code, out.getvalue(), err.getvalue())


def add(folder: Path, *arguments: str) -> str:
    done = run("add", folder, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def project(folder: Path, template: str = HEAD + A) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "template.yaml").write_bytes(template.encode())
    return folder


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A copy of the application as SAM's starter makes it."""
    shutil.copytree(STARTER, tmp_path / "hello")
    return tmp_path / "hello"


# ---------------------------------------------------------------- the text of templates

RESOURCE_ENTRY = Entry(
    "Mayfly",
    (
        (0, "Mayfly:"),
        (1, "Type: AWS::Serverless::Application"),
        (1, "Properties:"),
        (2, "Location: mayfly.yaml"),
    ),
    "Mayfly: {Type: AWS::Serverless::Application, Properties: {Location: mayfly.yaml}}",
)
OUTPUT_ENTRY = Entry(
    "MayflyUrl",
    (
        (0, "MayflyUrl:"),
        (1, "Description: The URL of Mayfly's API."),
        (1, "Value: !GetAtt Mayfly.Outputs.ApiUrl"),
    ),
    "MayflyUrl: {Value: !GetAtt Mayfly.Outputs.ApiUrl}",
)

FLOW = "Mayfly: {Type: AWS::Serverless::Application, Properties: {Location: mayfly.yaml}}"
FLOW_OUTPUT = "MayflyUrl: {Value: !GetAtt Mayfly.Outputs.ApiUrl}"
#: Templates. A line `@` marks the new resource, `%` the new output, `^` a
#: blank line that is inserted.
TEMPLATES = dict(
    re.findall(
        r"(?ms)^=== (\S+)\n(.*?)(?====|\Z)",
        (Path(__file__).with_name("odd_templates.txt")).read_text(encoding="utf-8"),
    )
) | {
    "byte-order-mark": f"\ufeff{HEAD}{A}@\n%\n",
    "spaces-and-long-lines": HEAD.replace(" ", "   ") + f"{A}    D:   {'long ' * 90}\n@\n%\n",
}


def parts_of(pattern: str) -> tuple[str, str]:
    """Returns a template, and what becomes of it."""
    has_outputs = "Outputs:\n  X" in pattern or pattern.endswith("Outputs:\n%\n")
    added = {"@": RESOURCE, "%": OUTPUT if has_outputs else OUTPUTS, "^": "\n"}
    marker = re.compile(r"(?m)^([@%^])\n")
    return marker.sub("", pattern), marker.sub(lambda match: added[match[1]], pattern)


def extended(text: str) -> str:
    template = TemplateText("template.yaml", text)
    return template.with_entry("Resources", RESOURCE_ENTRY).with_entry("Outputs", OUTPUT_ENTRY).text


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("pattern", TEMPLATES.values(), ids=TEMPLATES)
def test_text_has_new_lines_and_is_otherwise_the_same(pattern: str, line_end: str) -> None:
    before, after = (text.replace("\n", line_end) for text in parts_of(pattern))
    assert extended(before) == after


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_last_line_without_an_end_stays_without_one(line_end: str) -> None:
    before, after = ((HEAD + A + more).replace("\n", line_end) for more in ("", RESOURCE + OUTPUTS))
    assert extended(before.removesuffix(line_end)) == after.removesuffix(line_end)


@pytest.mark.parametrize("indentation", [1, 3, 4, 8])
def test_new_lines_are_indented_as_the_others(indentation: int) -> None:
    def indented(text: str) -> str:
        return re.sub("(?m)^ +", lambda match: " " * (len(match[0]) // 2 * indentation), text)

    assert extended(indented(HEAD + A)) == indented(HEAD + A + RESOURCE + OUTPUTS)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{A: {Type: X}}", f"{{A: {{Type: X}}, {FLOW}}}"),
        ("{ A: {Type: X} , }", f"{{ A: {{Type: X}}, {FLOW} , }}"),
        ("{\n  A: {Type: X} # why\n}", f"{{\n  A: {{Type: X}}, {FLOW} # why\n}}"),
        ("{}", f"{{{FLOW}}}"),
        ('{"A": {"Type": "X"}}', f'{{"A": {{"Type": "X"}}, {FLOW}}}'),
    ],
    ids=["one", "comma", "lines", "empty", "as-json"],
)
def test_section_in_flow_style_gets_an_entry_in_flow_style(before: str, after: str) -> None:
    text = f"{HEAD}Resources: {before}\nOutputs: {{X: {{Value: 1}}}}\n"
    assert extended(text) == (
        f"{HEAD}Resources: {after}\nOutputs: {{X: {{Value: 1}}, {FLOW_OUTPUT}}}\n"
    )


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "tests" / "apps").rglob("*.yaml")), ROOT / "template.yaml"],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_template_of_another_application_keeps_each_line(path: Path) -> None:
    text = path.read_bytes().decode()
    if "AWS::Serverless-2016-10-31" not in text or "\nResources:" not in text:
        pytest.skip("not a template of SAM")
    lines = iter(extended(text).splitlines())
    assert all(line in lines for line in text.splitlines())  # in this order
    new = set(extended(text).splitlines()) - set(text.splitlines())
    assert new <= {*RESOURCE.splitlines(), *OUTPUTS.splitlines()}


def test_new_section_next_to_one_in_flow_style_is_indented_by_two() -> None:
    text = f"{HEAD}Resources: {{A: {{Type: X}}}}\n"
    assert extended(text) == f"{HEAD}Resources: {{A: {{Type: X}}, {FLOW}}}\n{OUTPUTS}"


def test_section_that_is_an_alias_is_refused() -> None:
    text = f"{HEAD}Metadata: &all {{A: {{Type: X}}}}\nResources: *all\n"
    with pytest.raises(LocalError, match="Resources is not a mapping of entries"):
        extended(text)


# ---------------------------------------------------------------- a project


def test_project_gets_the_part_its_code_and_lines_of_the_template(hello: Path) -> None:
    before = contents(hello)
    printed = add(hello, "jobs", "sessions")
    after = contents(hello)
    assert {name for name in after if after[name] != before.get(name)} == {
        "mayfly.yaml", "mayfly_code/Makefile", "mayfly_code/requirements.txt",
        "mayfly_code/tasks/__init__.py", "template.yaml",
    }  # fmt: skip
    text = after["mayfly.yaml"].decode()
    assert is_as_written(text)
    choices = wanted(text)
    assert choices.features == ["sessions", "jobs"]
    assert (choices.code, choices.runtime, choices.tasks) == ("mayfly_code", "python3.13", "tasks")
    assert after["mayfly_code/requirements.txt"] == f"mayfly-serverless~={__version__}\n".encode()
    for line in (
        "template.yaml: changed\n",
        "+      Location: mayfly.yaml\n",
        "          JOBS_TABLE: !GetAtt Mayfly.Outputs.JobsTableName\n",
        "          SUBJECT_KEY: !GetAtt Mayfly.Outputs.SubjectKey\n",
        '      capabilities = "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"\n',
    ):
        assert line in printed


def test_print_changes_nothing(hello: Path) -> None:
    before = contents(hello)
    printed = add(hello, "jobs", "--print")
    assert contents(hello) == before
    assert "mayfly.yaml: would be written\n" in printed
    assert add(hello, "jobs").replace(": written", ": would be written").replace(
        ": changed", ": would be changed"
    ) == (printed)


def test_second_call_changes_nothing(hello: Path) -> None:
    add(hello, "jobs")
    before = contents(hello)
    assert add(hello, "jobs").startswith("nothing to change\n")
    assert add(hello).startswith("nothing to change\n")
    assert contents(hello) == before


def test_later_part_is_added_to_those_before(hello: Path) -> None:
    add(hello, "sessions")
    assert not (hello / "mayfly_code" / "tasks").exists()
    before = contents(hello)
    add(hello, "jobs")
    after = contents(hello)
    assert after["template.yaml"] == before["template.yaml"]
    assert wanted(after["mayfly.yaml"].decode()).features == ["sessions", "jobs"]
    assert "mayfly_code/tasks/__init__.py" in after


def older(text: str) -> str:
    """Returns a mayfly.yaml as an older release has written it: it has another description."""
    body = text.partition("\n")[2].replace("Mayfly as a part", "Parts", 1)
    return f"# Written by mayfly 0.2.0 for sessions, jobs. Content {_digest(body)}.\n{body}"


def test_part_of_an_older_release_is_updated_with_its_choices(hello: Path) -> None:
    add(hello, "jobs", "sessions", "--code", "hello_world", "--runtime", "python3.12")
    part, requirements = hello / "mayfly.yaml", hello / "hello_world" / "requirements.txt"
    new = part.read_text()
    part.write_text(older(new).replace("MAYFLY_TASKS: tasks", "MAYFLY_TASKS: shop.tasks"))
    requirements.write_text("requests\nmayfly-serverless~=0.2.0\n")
    assert "mayfly.yaml: changed" in add(hello)
    assert part.read_text() == new.replace("MAYFLY_TASKS: tasks", "MAYFLY_TASKS: shop.tasks")
    assert requirements.read_text() == f"requests\nmayfly-serverless~={__version__}\n"


def test_part_with_other_line_ends_is_as_written(hello: Path) -> None:
    add(hello, "jobs")
    part = hello / "mayfly.yaml"
    part.write_bytes(part.read_bytes().replace(b"\n", b"\r\n"))
    assert add(hello).startswith("nothing to change\n")


def test_edited_part_is_replaced_if_that_is_asked_for(hello: Path) -> None:
    add(hello, "jobs")
    part = hello / "mayfly.yaml"
    written = part.read_text()
    part.write_text(written.replace("MemorySize: 512", "MemorySize: 1024"))
    assert run("add", hello).returncode == 1
    add(hello, "--force")
    assert part.read_text() == written


def test_requirements_of_a_folder_that_exists_are_left_to_its_owner(hello: Path) -> None:
    printed = add(hello, "jobs", "--code", "hello_world")
    assert (hello / "hello_world" / "requirements.txt").read_text() == "requests\n"
    assert "Add this line to hello_world/requirements.txt:" in printed
    assert (hello / "hello_world" / "tasks" / "__init__.py").exists()


def test_makefile_of_a_folder_that_exists_is_left_to_its_owner(hello: Path) -> None:
    makefile = hello / "hello_world" / "Makefile"
    makefile.write_text("test:\n\tpytest\n")
    printed = add(hello, "jobs", "--code", "hello_world")
    assert makefile.read_text() == "test:\n\tpytest\n"
    assert "Add these lines to hello_world/Makefile:" in printed
    assert "      build-%:\n" in printed
    makefile.write_text(makefile.read_text() + MAKEFILE.read_text())
    assert "hello_world/Makefile" not in add(hello, "jobs", "--code", "hello_world")


def test_part_of_a_release_without_makefiles_gets_one(hello: Path) -> None:
    add(hello, "jobs")
    (hello / "mayfly_code" / "Makefile").unlink()
    (hello / "mayfly.yaml").write_text(older((hello / "mayfly.yaml").read_text()))
    add(hello)
    assert (hello / "mayfly_code" / "Makefile").read_text() == MAKEFILE.read_text()


def test_makefile_is_printed_for_a_part_that_is_nested_by_hand(tmp_path: Path) -> None:
    assert run("template", tmp_path, "--makefile").stdout == MAKEFILE.read_text()


def test_tasks_that_exist_are_left_alone(hello: Path) -> None:
    (hello / "hello_world" / "work.py").write_text("# mine\n")
    add(hello, "jobs", "--code", "hello_world", "--tasks", "work")
    assert (hello / "hello_world" / "work.py").read_text() == "# mine\n"
    assert not (hello / "hello_world" / "work").exists()
    assert "MAYFLY_TASKS: work\n" in (hello / "mayfly.yaml").read_text()


def test_template_of_another_name_and_folder_is_changed(tmp_path: Path) -> None:
    project(tmp_path / "infra")
    (tmp_path / "infra" / "template.yaml").rename(tmp_path / "infra" / "app.yml")
    add(tmp_path, "limits", "--template", "infra/app.yml", "--name", "Parts")
    files = contents(tmp_path)
    assert set(files) == {
        "infra/app.yml", "infra/mayfly.yaml", "infra/mayfly_code/Makefile",
        "infra/mayfly_code/requirements.txt",
    }  # fmt: skip
    assert files["infra/app.yml"].decode() == HEAD + A + (RESOURCE + OUTPUTS).replace(
        "Mayfly:", "Parts:"
    ).replace("MayflyUrl", "PartsUrl").replace("Mayfly.Outputs", "Parts.Outputs")


def test_nested_application_of_another_name_is_known(tmp_path: Path) -> None:
    folder = project(tmp_path, HEAD + A + RESOURCE.replace("Mayfly:", "Parts:"))
    printed = add(folder, "jobs")
    assert (folder / "template.yaml").read_text() == HEAD + A + RESOURCE.replace(
        "Mayfly:", "Parts:"
    )
    assert "!GetAtt Parts.Outputs.JobsTableArn" in printed


def test_runtime_is_the_one_of_this_python_if_the_template_has_none_that_fits(
    tmp_path: Path,
) -> None:
    folder = project(tmp_path, f"{HEAD}Globals: {{Function: {{Runtime: python3.9}}}}\n{A}")
    add(folder, "jobs")
    assert wanted((folder / "mayfly.yaml").read_text()).runtime == runtime_here()


def test_template_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    folder = project(tmp_path / "app")
    (folder / "template.yaml").rename(tmp_path / "real.yaml")
    (tmp_path / "real.yaml").chmod(0o640)
    (folder / "template.yaml").symlink_to("../real.yaml")
    add(folder, "jobs")
    assert (folder / "template.yaml").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.yaml").stat().st_mode) == 0o640
    assert (tmp_path / "real.yaml").read_text() == HEAD + A + RESOURCE + OUTPUTS


@pytest.mark.parametrize("part", FEATURES)
def test_printed_properties_fit_into_a_function_and_name_outputs_of_the_part(
    tmp_path: Path, part: str
) -> None:
    folder = project(tmp_path)
    printed = add(folder, part)
    begin = printed.index("      Environment:")
    properties: dict[str, Any] = yaml_parse(
        "\n".join(line[6:] for line in printed[begin : printed.index("\n\n", begin)].split("\n"))
    )
    outputs = yaml_parse((folder / "mayfly.yaml").read_text())["Outputs"]
    named = re.findall(r"Mayfly\.Outputs\.(\w+)", printed[begin:])
    assert named
    assert set(named) <= set(outputs)
    assert properties["Environment"]["Variables"]
    for statement in properties["Policies"][0]["Statement"]:
        assert statement["Action"]


@pytest.mark.skipif(not SAM.exists(), reason="make .venv-sam/ready installs SAM")
def test_project_with_all_parts_and_the_printed_properties_is_valid(hello: Path) -> None:
    printed = add(hello, *FEATURES)
    begin = printed.index("      Environment:")
    properties = printed[begin : printed.index("\n\n", begin)] + "\n"
    template = hello / "template.yaml"
    before, handler, after = template.read_text().partition("      Handler: app.lambda_handler\n")
    template.write_text(before + handler + properties + after)
    for name in ("template.yaml", "mayfly.yaml"):
        done = subprocess.run(
            [SAM, "validate", "--lint", "-t", name], cwd=hello, capture_output=True, text=True,
            check=False, env={**os.environ, "SAM_CLI_TELEMETRY": "0"},
        )  # fmt: skip
        assert "is a valid SAM Template" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("part", FEATURES)
def test_template_command_prints_the_parts(tmp_path: Path, part: str) -> None:
    done = run("template", tmp_path, part, "--runtime", "python3.12", "--code", "src")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == nested(wanted(done.stdout))
    assert wanted(done.stdout).features == [part]
    assert contents(tmp_path) == {}


def test_template_command_prints_all_parts_by_default(tmp_path: Path) -> None:
    assert wanted(run("template", tmp_path).stdout).features == list(FEATURES)


# ---------------------------------------------------------------- refusals


def edit(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


BAD_TEMPLATES = {
    "no-template": (None, "there is no template.yaml or template.yml here"),
    "json": ('{"Resources": {}}', "template.yaml is a template in JSON"),
    "no-transform": (A, "template.yaml is not a template of SAM: it has no Transform"),
    "other-transform": (f"Transform: AWS::LanguageExtensions\n{A}", "it has no Transform"),
    "not-yaml": (f"{HEAD}Resources: [\n", "template.yaml is not YAML: line 3: "),
    "tabs": (f"{HEAD}Resources:\n\tA: 1\n", "template.yaml is not YAML: line 3: "),
    "two-documents": (f"{HEAD}{A}---\n{A}", "template.yaml is not YAML: "),
    "list": ("- a\n", "template.yaml is not a template"),
    "empty": ("", "template.yaml is not a template"),
    "control-character": ("a: \x01\n", "template.yaml is not YAML: "),
    "unknown-alias": (f"{HEAD}Resources: *a\n", "template.yaml is not YAML: line 2: "),
    "resources-twice": (f"{HEAD}{A}{A}", "template.yaml has two sections Resources"),
    "resources-is-a-list": (f"{HEAD}Resources: [A]\n", "Resources is not a mapping of entries"),
    "resources-is-null": (f"{HEAD}Resources: ~\n", "Resources is not a mapping of entries"),
    "outputs-is-a-text": (f"{HEAD}{A}Outputs: x\n", "Outputs is not a mapping of entries"),
    "logical-id-exists": (
        f"{HEAD}{A}  Mayfly: {{Type: X}}\n",
        "template.yaml has Mayfly in Resources already",
    ),
    "parameter-exists": (
        f"{HEAD}Parameters:\n  Mayfly: {{Type: String}}\n{A}",
        "template.yaml has Mayfly in Parameters already",
    ),
    "output-exists": (
        f"{HEAD}{A}Outputs:\n  MayflyUrl: {{Value: 1}}\n",
        "template.yaml has MayflyUrl in Outputs already",
    ),
}


def refused(folder: Path, *arguments: str, command: str = "add") -> str:
    before = contents(folder)
    done = run(command, folder, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mayfly: ")
    assert len(done.stderr.splitlines()) == 1
    assert contents(folder) == before
    return done.stderr


@pytest.mark.parametrize(("template", "said"), BAD_TEMPLATES.values(), ids=BAD_TEMPLATES)
def test_bad_template_is_named_in_one_line_and_nothing_is_written(
    tmp_path: Path, template: str | None, said: str
) -> None:
    if template is not None:
        edit(tmp_path, "template.yaml", template)
    assert said in refused(tmp_path, "jobs")


def test_template_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_bytes(b"Description: \xe4\n")
    assert "template.yaml is not UTF-8 (at byte 13)" in refused(tmp_path, "jobs")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the parts to add: counters, limits, sessions, jobs"),
        (["queues"], "no part is called queues; there are counters, limits"),
        (["jobs", ""], "no part is called ; there are counters"),
        (["jobs", "--name", "My-fly"], "'My-fly' is not a logical id"),
        (["jobs", "--name", "A"], "template.yaml has A in Resources already"),
        (["jobs", "--runtime", "python3.10"], "python3.10 is not a runtime that Mayfly supports"),
        (["jobs", "--code", "../src"], "--code '../src' is not a folder of this project"),
        (["jobs", "--code", "/src"], "--code '/src' is not a folder of this project"),
        (["jobs", "--code", "a b\nc"], "--code 'a b\\nc' is not a folder of this project"),
        (["jobs", "--code", "template.yaml"], "cannot be written"),
        (["jobs", "--tasks", "my-tasks"], "--tasks 'my-tasks' is not the name of a package"),
        (["jobs", "--template", "other.yaml"], "other.yaml cannot be read: No such file"),
        (["jobs", "--template", "."], ". cannot be read: Is a directory"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_call_is_named_in_one_line_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    project(tmp_path)
    assert said in refused(tmp_path, *arguments)


def test_two_templates_are_named(tmp_path: Path) -> None:
    project(tmp_path)
    edit(tmp_path, "template.yml", HEAD + A)
    assert "there are a template.yaml and a template.yml" in refused(tmp_path, "jobs")
    add(tmp_path, "jobs", "--template", "template.yml")


def test_json_template_alone_is_named(tmp_path: Path) -> None:
    edit(tmp_path, "template.json", "{}")
    assert "template.json is a template in JSON" in refused(tmp_path, "jobs")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("512", "1024"), "mayfly.yaml was changed by hand"),
        (lambda text: text + "# note\n", "mayfly.yaml was changed by hand"),
        (lambda text: text.partition("\n")[2], "mayfly.yaml was changed by hand"),
        (lambda _: "", "mayfly.yaml was changed by hand"),
        (lambda text: text.replace("mayfly 0.", "mayfly 99.", 1), "and this is"),
    ],
    ids=["memory", "comment", "no-first-line", "empty", "newer-release"],
)
def test_edited_part_is_named_and_kept(hello: Path, change: Any, said: str) -> None:
    add(hello, "jobs")
    part = hello / "mayfly.yaml"
    part.write_text(change(part.read_text()))
    assert said in refused(hello, "sessions")


def test_name_of_a_part_that_is_nested_under_another_one_is_refused(hello: Path) -> None:
    add(hello, "jobs")
    assert "template.yaml nests mayfly.yaml as Mayfly already, not as Parts" in refused(
        hello, "jobs", "--name", "Parts"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["queues"], "no feature is called queues"),
        (["--runtime", "nodejs22.x"], "nodejs22.x is not a runtime"),
    ],
    ids=["part", "runtime"],
)
def test_bad_call_of_template_is_named_in_one_line(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert said in refused(tmp_path, *arguments, command="template")


# ---------------------------------------------------------------- files written together


def test_files_are_all_written_or_none(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").mkdir()
    new = {tmp_path / "one": b"2", tmp_path / "deep" / "new": b"3", tmp_path / "two": b"4"}
    with pytest.raises(LocalError, match="two cannot be written: Is a directory"):
        write_all(new)
    assert contents(tmp_path) == {"one": b"1"}
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]
