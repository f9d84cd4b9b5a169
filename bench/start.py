"""The time from the command to the first response, and from a saved change to its response."""

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import requests

from mayfly_local.emulator.process import free_port
from mayfly_testing.stack import MAYFLY, ROOT, wait_until

QUESTION = "how long does `mayfly up` take to the first 200, and a saved handler to the new answer?"
RUNS = 7
SAVES = 10
#: Parts of this repository that the stack reads.
_PARTS: Final = ("template.yaml", "functions", "layers")


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns seconds over several starts: of this repository's stack, and of small ones."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        template = _copy(Path(folder))
        figures["seconds to the first 200, first start ever"] = round(_start(template)[0], 2)
        starts = [_start(template) for _ in range(RUNS)]
        seconds = [start[0] for start in starts]
        say(f"{RUNS} starts: {', '.join(f'{duration:.2f}' for duration in seconds)} s")
        figures["median seconds to the first 200"] = round(statistics.median(seconds), 2)
        figures["slowest"] = round(max(seconds), 2)
        figures["median CPU seconds of all processes"] = round(
            statistics.median(start[1] for start in starts), 2
        )
    for count in (1, 20):
        with tempfile.TemporaryDirectory() as folder:
            template = _application(Path(folder), count)
            _start(template)
            seconds = [_start(template)[0] for _ in range(RUNS)]
            figures[f"median seconds, {count} function{'s' if count > 1 else ''}"] = round(
                statistics.median(seconds), 2
            )
    with tempfile.TemporaryDirectory() as folder:
        reloads, old = _reloads(_application(Path(folder), 1))
        figures["median milliseconds of the request after a save"] = round(
            statistics.median(reloads) * 1000
        )
        figures[f"old answers after {SAVES} saves"] = old
    return figures


def _copy(folder: Path) -> Path:
    """Copies the stack of this repository, without what earlier starts left."""
    for part in _PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(
                source, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".mayfly")
            )
        else:
            shutil.copy(source, folder / part)
    return folder / "template.yaml"


def _application(folder: Path, count: int) -> Path:
    """Writes an application of functions without packages, each with a route."""
    functions = []
    for number in range(count):
        code = folder / f"code{number}"
        code.mkdir()
        _save(code / "app.py", "first")
        path = "/" if number == 0 else f"/{number}"
        functions.append(
            f"  F{number}:\n    Type: AWS::Serverless::Function\n    Properties:\n"
            f"      {{Runtime: python3.13, Handler: app.handler, CodeUri: code{number},\n"
            f"       Events: {{A: {{Type: HttpApi, Properties: {{Path: {path}, Method: "
            "GET}}}}\n"
        )
    template = folder / "template.yaml"
    template.write_text("Transform: AWS::Serverless-2016-10-31\nResources:\n" + "".join(functions))
    return template


def _save(path: Path, word: str) -> None:
    path.write_text(f"def handler(event, context):\n    return {word!r}\n")


def _start(template: Path) -> tuple[float, float]:
    """Returns the seconds to the first response, and the CPU seconds of all processes until it."""
    started = time.monotonic()
    with _running(template) as (process, _):
        seconds = time.monotonic() - started
        top = psutil.Process(process.pid)
        cpu = 0.0
        for each in [top, *top.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                cpu += times.user + times.system
        return seconds, cpu


def _reloads(template: Path) -> tuple[list[float], int]:
    """Saves a handler several times.

    Returns the seconds of each request that follows, and how many had the old answer.
    """
    seconds, old = [], 0
    with _running(template) as (_, url):
        for number in range(SAVES):
            requests.get(url, timeout=30)
            word = f"answer {number}"
            _save(template.parent / "code0" / "app.py", word)
            started = time.monotonic()
            old += requests.get(url, timeout=30).text != word
            seconds.append(time.monotonic() - started)
    return seconds, old


@contextmanager
def _running(template: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Yields a stack that has answered once, and its URL."""
    url = f"http://127.0.0.1:{free_port()}/"
    with tempfile.TemporaryDirectory() as work:
        process = subprocess.Popen(
            [MAYFLY, "up", "--template", template, "--port", url.split(":")[2].strip("/"),
             "--work", work],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: _answers(url), 120, interval=0.005)
            yield process, url
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=60).status_code == 200
    except requests.ConnectionError:
        return False
