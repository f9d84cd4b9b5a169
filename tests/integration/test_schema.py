"""schemathesis over the whole API of a local stack.

Requests that fit the description are accepted, others are refused, and none is answered with 500.

`pytest tests/integration/test_schema.py --soaks --schema 300 -rP` runs up to 300 cases for each
operation and phase, and prints its summary.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mayfly_testing.stack import ROOT, running

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.soak
def test_every_answer_is_as_described_and_none_is_a_500(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with running(tmp_path, work=tmp_path / ".mayfly") as stack:
        command = [
            str(Path(sys.executable).parent / "st"), "--config-file",
            str(ROOT / "tools" / "openapi" / "schemathesis.toml"),
            "run", f"{stack.url}/openapi.json", "-H", f"Authorization: Bearer {stack.key}",
            "-n", str(request.config.getoption("--schema")), "--seed", "8", "--continue-on-failure",
            "--no-color",
            # Before Python 3.11.8, ast.parse may fail on two threads:
            # https://github.com/python/cpython/issues/106905
            "-w", "1",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        failed = [
            each
            for each in stack.log("mayfly")
            if each["type"] == "request" and each["status"] >= 500
        ]
    assert done.returncode == 0, done.stdout[-20_000:]
    assert failed == []
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found, done.stdout[-3000:]
    assert int(found[1]) == int(found[2]) >= 500
    # The requested figures.
    print(done.stdout[done.stdout.index("= SUMMARY") :])  # noqa: T201
