"""Figures of the pages: those of the benchmark's last run (`bench/results`)."""

import json
import re

from bench.sweep import INVOCATION_SECONDS
from functions.sweep_jobs.app import Shares
from mayfly_testing.stack import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
FIGURES = json.loads((ROOT / "bench" / "results" / "sweep.json").read_text())["figures"]
SHARDS = ("1 shard", "8 shards")
#: Seconds of each minute in which the sweep takes jobs out of the index.
RELEASING = INVOCATION_SECONDS - Shares().for_schedules // 1000


def row(begin: str) -> list[float]:
    """Returns the figures of the only row of the page's tables that begins with a text."""
    (cells,) = re.findall(rf"^\| {re.escape(begin)}[^|]*((?:\|[^|\n]+)+)\|$", PAGE, re.MULTILINE)
    return [float(cell.replace(",", "")) for cell in cells.split("|")[1:]]


def test_rates_of_the_sweep_are_those_of_the_benchmark() -> None:
    rates = [FIGURES[f"jobs a minute of sweeping ({shards})"] for shards in SHARDS]
    assert row("jobs a minute of sweeping") == [round(rate, -3) for rate in rates]
    assert row("jobs in each minute") == [round(rate * RELEASING / 60, -3) for rate in rates]
    assert f"the first {RELEASING} s of each minute" in PAGE


def test_quiet_tenant_waits_in_the_page_as_long_as_in_the_benchmark() -> None:
    name = "seconds of sweeping until the quiet tenant's ten were announced"
    assert row("seconds until") == [FIGURES[f"{name} ({shards})"] for shards in SHARDS]
