"""The parts of Mayfly for another application, cut out of this repository's own template.

`nested` returns the text of a template that an application nests, `mayfly.yaml`. It works on text,
so that comments and order are those of the source. The same parts therefore run in the repository
and in every application.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mayfly import __version__

__all__ = [
    "FEATURES",
    "Wanted",
    "is_as_written",
    "nested",
    "release",
    "source",
    "wanted",
]

_HERE: Final = Path(__file__).parent
#: Every part. Functions of an HTTP API bring the API, its authorizer and the keys.
_ALWAYS: Final = ("Api", "Authorizer")
_JOBS: Final = (
    "Jobs", "AwaitJob", "SweepJobs", "RelayJobs", "BuryJobs", "RunJobs", "DeliverWebhooks",
)  # fmt: skip
#: The functions of each feature. Tables, queues, buckets and roles follow from what they refer to.
#: Every job may be a webhook, so jobs bring webhooks. Limits have the functions of counters.
FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "counters": ("Counters",),
    "limits": ("Counters",),
    "sessions": ("Sessions",),
    "jobs": _JOBS,
    "webhooks": _JOBS,
    "schedules": ("Schedules", *_JOBS),
    "imports": ("StartImports", *_JOBS),
}
#: Resources that other features only mention, each in lines of its own, by the feature that they
#: belong to. Without the feature, these lines are left out.
_MENTIONED: Final = {"ImportsBucket": "imports"}
_KEY: Final = re.compile(r"(?m)^  ([A-Za-z]\w*):")
_REFERENCE: Final = re.compile(r"!Ref (\w+)|!GetAtt (\w+)|Ref: (\w+)|DependsOn: (\w+)|\$\{(\w+)")
_ANCHOR: Final = re.compile(r"&([\w-]+)\n((?: +.*\n)+?)(?= {6}\w)")
#: Lines that differ between applications. Digests of released files leave out exactly these.
_OF_THE_APPLICATION: Final = re.compile(r"(?m)^ *(?:Runtime|CodeUri|MAYFLY_TASKS): .*\n")
_HEADER: Final = re.compile(
    r"# Written by mayfly (\S+) for ([a-z, ]+)\. Content ([0-9a-f]{16})\.\n"
)


@dataclass(frozen=True)
class Wanted:
    """The choices of an application.

    `features` are keys of FEATURES. `code` is the folder of its functions, which has a Makefile
    that calls `mayfly bundle`, a requirements.txt with Mayfly and, next to them, the package
    `tasks` if the application has tasks. `runtime` is Lambda's name of a Python version.
    """

    features: Collection[str]
    code: str
    runtime: str
    tasks: str = ""


def nested(wanted: Wanted) -> str:
    """Returns the text of `mayfly.yaml`. Raises ValueError if a feature is not known."""
    unknown = sorted(set(wanted.features) - set(FEATURES))
    if unknown:
        raise ValueError(f"no feature is called {unknown[0]}; there are {', '.join(FEATURES)}")
    sections = _sections(source())
    resources = {
        name: _without_the_rest(_inlined(block), wanted.features)
        for name, block in _entries(sections["Resources"]).items()
    }
    kept = _closure(resources, wanted.features)
    for name, block in resources.items():
        if name not in kept and (alarm := _alarm(block, kept, resources)):
            resources[name] = alarm
            kept |= {name, *_references(alarm)} & set(resources)
    body = "".join(
        _installed(block, wanted.code) for name, block in resources.items() if name in kept
    )
    parameters = _entries(sections["Parameters"])
    globals_ = _globals(sections["Globals"], wanted)
    conditions = _conditions(sections["Conditions"], body)
    used = _references(body + globals_ + conditions)
    features = ", ".join(name for name in FEATURES if name in wanted.features)
    text = (
        f'AWSTemplateFormatVersion: "2010-09-09"\n'
        f"Transform: AWS::Serverless-2016-10-31\n"
        f"Description: Mayfly as a part of an application, with {features}.\n"
        f"\nParameters:\n{''.join(parameters[name] for name in parameters if name in used)}"
        f"{conditions}"
        f"\nGlobals:\n{globals_}"
        f"\nResources:\n{body}"
        f"\nOutputs:\n{_outputs(sections['Outputs'], resources, kept)}"
    )
    text = re.sub(r"\n{3,}", "\n\n", text)
    return f"# Written by mayfly {__version__} for {features}. Content {_digest(text)}.\n{text}"


def is_as_written(text: str) -> bool:
    """Returns whether the text of a `mayfly.yaml` is as some release has written it.

    The runtime, the folder of the code and the package of tasks may have been changed.
    """
    header = _HEADER.match(text)
    return header is not None and _digest(text[header.end() :]) == header[3]


def release(text: str) -> str | None:
    """Returns the release that has written a `mayfly.yaml`, None if its first line is another."""
    header = _HEADER.match(text)
    return header[1] if header is not None else None


def wanted(text: str) -> Wanted:
    """Returns the choices that a `mayfly.yaml` was written with. A missing one is empty."""
    header = _HEADER.match(text)
    features = header[2].split(", ") if header is not None else []
    values = {
        key: found[1].strip() if (found := re.search(rf"(?m)^ +{key}: (.+)$", text)) else ""
        for key in ("CodeUri", "Runtime", "MAYFLY_TASKS")
    }
    return Wanted(features, values["CodeUri"], values["Runtime"], values["MAYFLY_TASKS"])


def source() -> str:
    """Returns the template of the repository. The wheel has a copy next to this module."""
    own = _HERE / "template.yaml"
    return (own if own.exists() else _HERE.parent / "template.yaml").read_text(encoding="utf-8")


def _sections(text: str) -> dict[str, str]:
    """Returns the content of each top-level key that has a block."""
    parts = re.split(r"(?m)^([A-Z]\w*):\n", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _entries(section: str) -> dict[str, str]:
    """Returns the lines of each entry of a section, with the comments and empty lines above it."""
    entries: dict[str, str] = {}
    above, name = "", ""
    for line in section.splitlines(keepends=True):
        if match := _KEY.match(line):
            name = match[1]
            entries[name], above = above + line, ""
        elif line.strip() and not line.startswith("  #"):
            entries[name] += above + line
            above = ""
        else:
            above += line
    return entries


def _inlined(block: str) -> str:
    """Returns a block without aliases, which CloudFormation does not read in uploaded templates."""
    anchors = {
        match[1]: f"\n{match[2]}" for match in _ANCHOR.finditer(_sections(source())["Resources"])
    }
    block = re.sub(r" &[\w-]+\n", "\n", block)
    for name, lines in anchors.items():
        block = block.replace(f" *{name}\n", lines)
    return block


def _without_the_rest(block: str, features: Collection[str]) -> str:
    """Returns a block without the lines that mention resources of features that are not wanted."""
    name = _KEY.search(block)
    for mentioned, feature in _MENTIONED.items():
        if feature not in features and (name is None or name[1] != mentioned):
            block = re.sub(rf"(?m)^.*\b{mentioned}\b.*\n", "", block)
    return block


def _references(text: str) -> set[str]:
    """Returns the names that a text refers to, except in comments."""
    text = re.sub(r"(?m)^ *#.*\n", "", text)
    return {next(filter(None, groups)) for groups in _REFERENCE.findall(text)}


def _closure(resources: Mapping[str, str], features: Collection[str]) -> set[str]:
    """Returns the functions of the features, and all resources that they refer to."""
    kept: set[str] = set()
    left = [*_ALWAYS, *(name for feature in features for name in FEATURES[feature])]
    while left:
        name = left.pop()
        if name in resources and name not in kept:
            kept.add(name)
            left += _references(resources[name])
    return kept


def _alarm(block: str, kept: Collection[str], resources: Mapping[str, str]) -> str:
    """Returns an alarm for the resources that are kept; an empty text if it has no metric of them.

    Each of its metrics has a line of its own. Other resources give an empty text.
    """
    if "    Type: AWS::CloudWatch::Alarm\n" not in block:
        return ""
    others = set(resources) - set(kept) - {"AlarmTopic"}
    lines = block.splitlines(keepends=True)
    left = [line for line in lines if "MetricStat:" not in line or not _is_absent(line, others)]
    return "".join(left) if any("MetricStat:" in line for line in left) else ""


def _is_absent(line: str, others: Collection[str]) -> bool:
    """Returns whether a line has a metric of a resource that is not kept.

    A metric of Mayfly's own names its function as a service, in snake case.
    """
    service = re.search(r"Name: service, Value: (\w+)", line)
    names = _references(line)
    if service is not None:
        names.add("".join(word.capitalize() for word in service[1].split("_")))
    return not names.isdisjoint(others)


def _conditions(section: str, body: str) -> str:
    """Returns the section of those conditions that resources use, an empty text without any."""
    used = "".join(block for name, block in _entries(section).items() if name in body)
    return f"\nConditions:\n{used}" if used else ""


def _installed(block: str, code: str) -> str:
    """Returns a function's block with the handler of the installed package."""
    block = block.replace("      CodeUri: functions\n", f"      CodeUri: {code}\n")
    return re.sub(r"(?m)^( +Handler: )(\w+\.main\.handler)$", r"\1mayfly_functions.\2", block)


def _globals(section: str, wanted: Wanted) -> str:
    text = re.sub(r"(?m)^( +Runtime: ).*$", lambda m: m[1] + wanted.runtime, section)
    if wanted.tasks:
        text = text.rstrip("\n") + f"\n        MAYFLY_TASKS: {wanted.tasks}\n"
    return text


#: Types of resources that an application uses: the suffix of an output, and its value.
_USED: Final = {
    "AWS::DynamoDB::Table": ("Name", "!Ref"),
    "AWS::SQS::Queue": ("Url", "!Ref"),
    "AWS::S3::Bucket": ("Name", "!Ref"),
}
#: Resources that are Mayfly's own affair.
_OWN: Final = re.compile(r"\w*DeadLetters|Endpoints|Relay|Tenants|Uploads|Webhooks")


def _outputs(section: str, resources: Mapping[str, str], kept: Collection[str]) -> str:
    """Returns the outputs of the template, and name and ARN of what an application uses."""
    lines = {
        name: block
        for name, block in _entries(section).items()
        if all(known in kept or known in ("AWS", "SubjectKey") for known in _references(block))
    }
    if "SessionsTable" not in kept:
        lines.pop("SubjectKey", None)
    for name, kind in _typed(resources, kept):
        suffix, function = _USED[kind]
        lines.setdefault(f"{name}{suffix}", _output(f"{name}{suffix}", f"{function} {name}"))
        lines[f"{name}Arn"] = _output(f"{name}Arn", f"!GetAtt {name}.Arn")
    return "".join(block.lstrip("\n") for block in lines.values())


def _typed(resources: Mapping[str, str], kept: Collection[str]) -> Iterator[tuple[str, str]]:
    for name, block in resources.items():
        kind = re.search(r"(?m)^    Type: (\S+)$", block)
        if name in kept and kind is not None and kind[1] in _USED and not _OWN.match(name):
            yield name, kind[1]


def _output(name: str, value: str) -> str:
    return f"  {name}:\n    Value: {value}\n"


def _digest(text: str) -> str:
    return hashlib.sha256(_OF_THE_APPLICATION.sub("", text).encode()).hexdigest()[:16]
