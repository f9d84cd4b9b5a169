"""Makes the folder of a release: its code as one archive, and everything that it stores.

::

    CHECKOUT/.venv/bin/python tests/releases/make.py CHECKOUT VERSION

The items are made by the handlers and stores of CHECKOUT, on moto, with a fixed clock and numbered
ids. Two runs give the same bytes. See README.md in this folder.
"""

import base64
import hashlib
import io
import json
import lzma
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import mayfly
from moto import mock_aws

from tests.conftest import make_tables
from tests.releases.maker import Made, make
from tests.releases.readings import BUCKET, read, stores
from tests.support.clients import make_client
from tests.support.fakes import FixedClock

__all__ = ["fill", "load", "members", "write"]

#: The paths of the checkout that make up a release.
CODE: Final = (
    "functions",
    "layers/mayfly/mayfly",
    "layers/mayfly/requirements.txt",
    "template.yaml",
)
#: Items above this many bytes of JSON are written to a file of their own, which is compressed.
LARGE: Final = 20_000


def load(folder: Path) -> dict[str, Any]:
    """Returns what a release has stored: items by table, parameters, messages by name."""
    found: dict[str, Any] = json.loads((folder / "items.json").read_text())
    large = json.loads(lzma.decompress((folder / "large_items.json.xz").read_bytes()))
    return {
        **found,
        "tables": {
            table: [_decoded(item) for item in [*items, *large.get(table, [])]]
            for table, items in found["tables"].items()
        },
    }


def fill(client: Any, tables: Mapping[str, str], held: Mapping[str, Any]) -> None:
    """Puts everything that a release has stored into tables, Parameter Store and a new bucket."""
    for table, items in held["tables"].items():
        for item in items:
            client.put_item(TableName=tables[table], Item=item)
    ssm = make_client("ssm")
    for path, value in held["parameters"].items():
        ssm.put_parameter(Name=path, Value=value, Type="SecureString")
    make_client("s3").create_bucket(Bucket=BUCKET)


def write(folder: Path, made: Made, *, checkout: Path, version: str) -> None:
    """Writes a release's folder."""
    folder.mkdir()
    encoded = {table: [_encoded(item) for item in items] for table, items in made.items.items()}
    small = {
        table: [item for item in items if not _is_large(item)] for table, items in encoded.items()
    }
    large = {
        table: some
        for table, items in encoded.items()
        if (some := [item for item in items if _is_large(item)])
    }
    held = {"tables": small, "parameters": made.parameters, "messages": made.messages}
    (folder / "items.json").write_text(_lines(held, 3) + "\n")
    (folder / "large_items.json.xz").write_bytes(
        lzma.compress(json.dumps(large, sort_keys=True).encode(), preset=9)
    )
    (folder / "answers.json").write_text(_lines(_distinct(made.answers), 1) + "\n")
    cases = _expected(made, load(folder))
    (folder / "expected.json").write_text(
        _lines({"read_at_ms": made.read_at_ms, "cases": cases}, 2) + "\n"
    )
    archive, files = _archive(checkout)
    (folder / "code.tar.xz").write_bytes(archive)
    commit = _git(checkout, "rev-parse", "HEAD").decode().strip()
    documents = {path.name: _sha256(path.read_bytes()) for path in sorted(folder.iterdir())}
    manifest = {"version": version, "commit": commit, "documents": documents, "code": files}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def _expected(made: Made, held: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the cases with the values that this release itself reads from its items."""
    with mock_aws():
        client = make_client("dynamodb")
        tables = make_tables(client)
        fill(client, tables, held)
        found = stores(client, tables, FixedClock(made.read_at_ms), held["messages"])
        return [{**case, "gives": read(found, case["kind"], case["of"])} for case in made.cases]


def members(value: Any) -> set[str]:
    """Returns the paths of all members of a JSON value; the elements of an array count together."""
    if isinstance(value, list):
        return {f"[]{path}" for element in value for path in members(element)}
    if isinstance(value, dict):
        return {
            path
            for name, each in value.items()
            for path in (f".{name}", *(f".{name}{inner}" for inner in members(each)))
        }
    return set()


def _distinct(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the first answer of each combination of route, status and members."""
    found: dict[Any, str] = {}
    for name, each in answers.items():
        route = each["request"]["route"]
        found.setdefault((route, each["status"], frozenset(members(each["body"]))), name)
    return {name: answers[name] for name in found.values()}


def _archive(checkout: Path) -> tuple[bytes, dict[str, str]]:
    """Returns the code of a release as one archive, and the hashes of its files."""
    packed, hashes = io.BytesIO(), {}
    source = io.BytesIO(_git(checkout, "archive", "--format=tar", "HEAD", "--", *CODE))
    with (
        tarfile.open(fileobj=source) as whole,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for member in sorted((each for each in whole if each.isfile()), key=lambda each: each.name):
            content = whole.extractfile(member)
            assert content is not None
            data = content.read()
            entry = tarfile.TarInfo(member.name)
            entry.size = len(data)
            entry.mode = 0o755 if member.mode & 0o100 else 0o644
            tar.addfile(entry, io.BytesIO(data))
            hashes[member.name] = _sha256(data)
    return lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME), hashes


def _git(checkout: Path, *arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(checkout), *arguments], check=True, capture_output=True
    ).stdout


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _encoded(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an item as DynamoDB's JSON has it: bytes are base64."""
    return {
        name: {
            kind: base64.b64encode(data).decode() if kind == "B" else data
            for kind, data in value.items()
        }
        for name, value in sorted(item.items())
    }


def _decoded(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {
            kind: base64.b64decode(data) if kind == "B" else data for kind, data in value.items()
        }
        for name, value in item.items()
    }


def _is_large(item: Mapping[str, Any]) -> bool:
    return len(json.dumps(item)) > LARGE


def _lines(value: Any, depth: int) -> str:
    """Returns JSON with one line for each member of the outer levels; a difference is one line."""
    if depth and isinstance(value, dict) and value:
        body = ",\n".join(
            f"{json.dumps(name)}: {_lines(each, depth - 1)}" for name, each in value.items()
        )
        return f"{{\n{body}\n}}"
    if depth and isinstance(value, list) and value:
        body = ",\n".join(_lines(element, depth - 1) for element in value)
        return f"[\n{body}\n]"
    return json.dumps(value, sort_keys=True)


def main(arguments: Sequence[str]) -> None:
    """Makes the folder of a release next to this file."""
    if len(arguments) != 2:
        raise SystemExit(__doc__)
    checkout, version = Path(arguments[0]).resolve(), arguments[1]
    if not Path(mayfly.__file__).is_relative_to(checkout / "layers"):
        raise SystemExit(
            f"make.py: run it with {checkout}/.venv/bin/python, so that the release's own "
            "library makes the items"
        )
    if _git(checkout, "status", "--porcelain", "--", *CODE):
        raise SystemExit(
            f"make.py: {checkout} has changes that are not committed; a release is a commit"
        )
    with mock_aws():
        client = make_client("dynamodb")
        made = make(client, make_tables(client))
    write(Path(__file__).parent / version, made, checkout=checkout, version=version)


if __name__ == "__main__":
    main(sys.argv[1:])
