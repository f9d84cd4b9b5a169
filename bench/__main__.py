"""Runs every benchmark, or the ones named on the command line."""

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

BENCHMARKS = (
    "batch", "cost", "waits", "contention", "start", "warm", "jobs", "recovery", "sessions",
    "counters", "limits", "memory", "state", "cold", "sweep", "conflicts",
    "silence",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Prints each benchmark's table and writes its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--samples", type=int, help="rounds of `cold` (12)")
    options = parser.parse_args()
    names = options.names or BENCHMARKS
    if unknown := set(names) - set(BENCHMARKS):
        print(
            f"there is no benchmark {', '.join(sorted(unknown))}; there are: "
            f"{', '.join(BENCHMARKS)}",
            file=sys.stderr,
        )
        return 2
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    for name in names:
        module = importlib.import_module(f"bench.{name}")
        if options.samples and hasattr(module, "SAMPLES"):
            vars(module)["SAMPLES"] = options.samples
        print(f"\n{name}: {module.QUESTION}", flush=True)
        figures = module.measure(lambda text: print(f"  {text}", flush=True))
        for figure, value in figures.items():
            print(f"  {figure:<58} {value}")
        (RESULTS / f"{name}.json").write_text(
            json.dumps({"question": module.QUESTION, **machine, "figures": figures}, indent=2)
            + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
