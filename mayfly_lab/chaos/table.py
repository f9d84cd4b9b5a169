"""The tables of a chaos run, and its verdict."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mayfly_lab.chaos.ledger import CHAINED, EFFECTS, KEYED, PLAIN
from mayfly_lab.chaos.present import Present
from mayfly_lab.chaos.quiet import percentile
from mayfly_lab.chaos.storm import Outcome

__all__ = ["verdict", "write"]


def write(outcome: Outcome, *, seed: int, as_json: bool) -> None:
    """Prints what was acknowledged next to what is stored, and the quiet tenant's latency."""
    tenants, latencies = _tenants(outcome), _latencies(outcome)
    if as_json:
        print(
            json.dumps({
                "seed": seed, "strikes": dict(outcome.strikes), "tenants": tenants,
                "conflicts": dict(outcome.conflicts.met),
                "requested conflicts": dict(outcome.conflicts.requested),
                "latency": latencies, "problems": outcome.problems,
            })
        )  # fmt: skip
        return
    print(f"seed {seed}; strikes: {_counted(outcome.strikes)}")
    met, requested = outcome.conflicts.met, outcome.conflicts.requested
    print(f"calls that met a transaction: {_counted(met)}; a requested one: {_counted(requested)}")
    for rows in (tenants, latencies):
        if rows:
            print()
            _print(rows)


def verdict(outcome: Outcome) -> int:
    """Returns 0 if every count is exact and the latency is within its bound, else 1.

    The reasons are printed on standard error.
    """
    for problem in outcome.problems:
        print(f"mayfly: {problem}", file=sys.stderr)
    return 1 if outcome.problems else 0


def _tenants(outcome: Outcome) -> list[dict[str, Any]]:
    rows = []
    for tenant, ledger in outcome.ledgers.items():
        has = outcome.present.get(tenant, Present())
        live = [session for session in ledger.sessions if not session.may_have_ended]
        rows.append({
            "tenant": tenant,
            "jobs accepted": len(ledger.jobs) + len(ledger.messages),
            "ended": sum(job.is_ended for job in has.jobs.values()) - _chained(has),
            "dead": sum(job.status == "DEAD" for job in has.jobs.values()),
            "effects due": has.effects_on(EFFECTS),
            "counted": has.counters[EFFECTS],
            "webhooks": sum(job.is_sent_webhook for job in has.jobs.values()),
            "arrived": sum(
                job.is_sent_webhook and job.id in has.arrived for job in has.jobs.values()
            ),
            "keyed": ledger.keyed,
            "keyed counted": has.counters[KEYED],
            "plain": f"{ledger.plain}..{ledger.plain + ledger.plain_unknown}",
            "plain counted": has.counters[PLAIN] - has.effects_on(PLAIN),
            "sessions": len(live),
            "present": sum(
                answer.status == 200
                for session, answer in zip(ledger.sessions, has.sessions, strict=True)
                if not session.may_have_ended
            ),
            "limit admitted": ledger.admitted,
            "taken": has.taken,
        })  # fmt: skip
    return rows


def _chained(has: Present) -> int:
    return sum(job.payload.get("name") == CHAINED for job in has.jobs.values() if job.is_ended)


def _latencies(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "quiet tenant": what,
            "samples": f"{len(times.alone)}, {len(times.flooded)}",
            "p50 alone": f"{percentile(times.alone, 50):.1f} ms",
            "p99 alone": f"{percentile(times.alone, 99):.1f} ms",
            "p50 next to a flood": f"{percentile(times.flooded, 50):.1f} ms",
            "p99 next to a flood": f"{percentile(times.flooded, 99):.1f} ms",
            "bound": f"{times.bound:.1f} ms",
        }
        for what, times in outcome.latencies.items()
    ]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _print(rows: Sequence[dict[str, Any]]) -> None:
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    for first, *rest in lines:
        cells = [
            first.ljust(widths[0]),
            *(t.rjust(w) for t, w in zip(rest, widths[1:], strict=True)),
        ]
        print("  ".join(cells))
