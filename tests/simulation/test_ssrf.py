"""Webhooks to forbidden addresses connect to none, by a trap's log and the process's own."""

import ipaddress
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(HERE / "ssrf_process.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_no_webhook_connects_to_an_address_that_is_not_public() -> None:
    found = run()
    assert len(found["became"]) >= 90
    assert found["reached"] == 0
    # One entry rebinds: with a single look-up, it leads only to the public address that was
    # checked.
    assert {address[0] for address in found["connected"]} == {"1.1.1.1"}
    assert all(ipaddress.ip_address(address[0]).is_global for address in found["connected"])
    assert not [entry for entry, what in found["became"].items() if what.startswith("{")]


def test_trap_is_reached_if_a_policy_admits_it() -> None:
    found = run("open")
    assert found["reached"] >= 5
    assert any(address[0] == "127.0.0.1" for address in found["connected"])
