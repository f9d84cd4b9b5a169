"""The start of functions: init and the first call, next to the recipes that they replace.

Each sample is a new process of a function, with AWS's Runtime API client, against a store with TLS
that answers immediately. All rows take turns in each round.
"""

import asyncio
import compileall
import io
import itertools
import json
import os
import shutil
import ssl
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import botocore
from mayfly.core.ids import new_secret
from mayfly.tenants.items import key_item
from mayfly.tenants.model import ApiKey
from mayfly.tenants.rules import ALL_SCOPES, mint

from bench.certificates import Certificates, make_certificates
from bench.starts import Start, Starts, calibrate
from bench.workers import canned, canned_figures
from mayfly_local.compute.installations import installed
from mayfly_local.compute.launch import Launch
from mayfly_local.compute.packages import python_path, runtime_folder
from mayfly_local.iam.credentials import FOREIGN, emulator_variables
from mayfly_local.logs import Logs
from mayfly_local.processes.children import Children
from mayfly_testing.stack import ROOT

QUESTION = (
    "what do init and the first call of a function cost, next to the recipes with boto3, in new "
    "processes and interleaved rounds?"
)
#: Rounds; each has a new process of every row. `--samples` sets it.
SAMPLES = 12
#: Calls of a process after its first one: pages, and batches of ten messages.
WARM_PAGES, WARM_BATCHES = 300, 40

_CACHE: Final = ROOT / ".mayfly" / "cache"
_LAYER: Final = ROOT / "layers" / "mayfly"
#: The service data of botocore that the row with every trick reads.
_DATA: Final = ("_retry.json", "dynamodb", "partitions.json", "sdk-default-configuration.json")


@dataclass(frozen=True, eq=False)
class _Row:
    """A function of the comparison. `stock` names the row that its figures are divided by.

    Each row reads as many roots as it would on Lambda: those of botocore's bundle, or Amazon's. The
    store's own root is one more.
    """

    name: str
    folder: Path
    handler: str
    event: str
    stock: str
    warm: int = WARM_PAGES
    amazon_roots: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


_PAGE, _RECIPE = "stock recipe", "documented recipe, batch of ten"


def _peer(name: str, folder: str, **more: Any) -> _Row:
    return _Row(name, ROOT / folder, "main.handler", "page", _PAGE, **more)


def _ours(name: str, function: str, event: str = "page", stock: str = _PAGE, **more: Any) -> _Row:
    return _Row(name, ROOT / "functions", f"{function}.main.handler", event, stock, **more)


ROWS: Final = (
    _peer("bare handler, no store", "bench/peers/bare"),
    _peer("floor: own signature, http.client", "bench/peers/floor", amazon_roots=True),
    _peer("boto3 client alone", "bench/peers/client"),
    _peer(_PAGE, "bench/peers/stock"),
    _peer("stock recipe, every trick", "bench/peers/tricks", amazon_roots=True),
    _ours("mayfly hello", "hello", amazon_roots=True),
    _ours("mayfly hello, MAYFLY_CLIENT=boto3", "hello", variables={"MAYFLY_CLIENT": "boto3"}),
    _ours("mayfly jobs", "jobs", "job", amazon_roots=True),
    _ours("mayfly authorizer", "authorizer", "key", amazon_roots=True),
    _Row(_RECIPE, ROOT / "mayfly_lab/stock", "main.handler", "batch", _RECIPE, WARM_BATCHES),
    _ours(
        "mayfly run_jobs, batch of ten",
        "run_jobs",
        "batch",
        _RECIPE,
        warm=WARM_BATCHES,
        amazon_roots=True,
    ),
)


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns normalised CPU milliseconds, ratios, memory and calls to the store of each row."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        certificates = make_certificates(work)
        credential, api_key = mint(
            "dev", "default", ALL_SCOPES, now_ms=_now_ms(), new_secret=new_secret
        )
        (work / "answers.json").write_text(json.dumps(_answers(api_key)))
        with canned(tls=certificates.server, answers=work / "answers.json") as endpoint:
            bench = _Bench(endpoint, certificates, credential, work)
            rounds = asyncio.run(bench.run())
    return _table(say, rounds)


@dataclass(frozen=True)
class _Sample:
    """A start with its CPU times normalised, and the calls to the store of each warm call."""

    start: Start
    calls: float


class _Bench:
    """All rows, their launches, and the store that they use."""

    def __init__(
        self, endpoint: str, certificates: Certificates, credential: str, work: Path
    ) -> None:
        self._endpoint = endpoint
        self._certificates = certificates
        self._credential = credential
        self._work = work
        self._tls = ssl.create_default_context(cafile=certificates.amazon_roots)
        _prune_botocore(work / "botocore")
        self._launches = {row: self._launch(row) for row in ROWS}
        # All rows have byte-code, as deployed functions do.
        for folder in {folder for launch in self._launches.values() for folder in launch.path}:
            compileall.compile_dir(folder, quiet=2)

    async def run(self) -> dict[_Row, list[_Sample]]:
        """Returns the samples of each row, in the order of the rounds."""
        children = Children()
        await children.open()
        starts = Starts(children, Logs(self._work / "logs", form="text", out=io.StringIO()))
        rounds: dict[_Row, list[_Sample]] = {row: [] for row in ROWS}
        loops: dict[_Row, list[float]] = {row: [] for row in ROWS}
        try:
            # The first round fills the caches of files, and is not counted.
            for number in range(SAMPLES + 1):
                for row in ROWS:
                    sample, loop = await self._sample(starts, row)
                    if number:
                        rounds[row].append(sample)
                        loops[row].append(loop)
        finally:
            await children.close()
        usual = statistics.median(itertools.chain(*loops.values()))
        return {
            row: [
                _normalised(sample, usual / loop)
                for sample, loop in zip(rounds[row], loops[row], strict=True)
            ]
            for row in ROWS
        }

    async def _sample(self, starts: Starts, row: _Row) -> tuple[_Sample, float]:
        """Returns a sample, and the time of the calibration loop before and after it."""
        canned_figures(self._endpoint, self._tls)
        before = calibrate()
        start = await starts.one(
            self._launches[row],
            self._events(row.event),
            calls=row.warm,
            check=_CHECKS[row.event],
        )
        after = calibrate()
        calls = canned_figures(self._endpoint, self._tls)["calls"]
        # Calls in init are few, so their share of the mean is small.
        return _Sample(start, round(sum(calls.values()) / (row.warm + 1), 1)), (before + after) / 2

    def _events(self, kind: str) -> Iterator[Any]:
        sample = {"page": "hello", "job": "jobs", "key": "authorizer", "batch": "run_jobs"}[kind]
        event = json.loads((ROOT / "events" / f"{sample}.json").read_text())
        while True:
            if kind == "key":
                event["headers"]["authorization"] = f"Bearer {self._credential}"
            elif kind == "batch":
                record = event["Records"][0]
                event["Records"] = [
                    {**record, "messageId": uuid.uuid4().hex, "receiptHandle": uuid.uuid4().hex}
                    for _ in range(10)
                ]
            yield event

    def _launch(self, row: _Row) -> Launch:
        roots = self._certificates
        path, wanted = python_path(row.folder, [_LAYER], brings_packages=False, cache=_CACHE)
        with ThreadPoolExecutor(1) as thread:  # The caller's thread has a loop of its own.
            for requirements in wanted:
                thread.submit(asyncio.run, installed(requirements, cache=_CACHE)).result()
        return Launch(
            name=row.name.translate({ord(" "): "-", ord(","): None, ord(":"): None}),
            arn="arn:aws:lambda:us-east-1:000000000000:function:bench",
            handler=row.handler,
            runtime="awslambdaric",
            variables={
                **emulator_variables(self._endpoint, FOREIGN),
                **_VARIABLES,
                "PATH": os.environ.get("PATH", ""),
                "LAMBDA_TASK_ROOT": str(row.folder),
                "_HANDLER": row.handler,
                "JOBS_QUEUE_URL": f"{self._endpoint}/000000000000/jobs",
                "WEBHOOKS_QUEUE_URL": f"{self._endpoint}/000000000000/webhooks",
                "BENCH_BOTOCORE_DATA": str(self._work / "botocore"),
                "AWS_CA_BUNDLE": str(roots.amazon_roots if row.amazon_roots else roots.all_roots),
                **row.variables,
            },
            folder=row.folder,
            path=[*path, runtime_folder(_CACHE)],
            timeout_seconds=30,
            memory_mb=512,
        )


#: Settings of all functions, with the values of the template.
_VARIABLES: Final = {
    "LANG": "en_US.UTF-8", "TZ": ":UTC",
    "AWS_LAMBDA_FUNCTION_NAME": "bench", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13", "POWERTOOLS_LOG_LEVEL": "INFO",
    "POWERTOOLS_SERVICE_NAME": "bench",
    "COUNTERS_TABLE": "CountersTable", "JOBS_TABLE": "JobsTable", "SESSIONS_TABLE": "Sessions",
    "TENANTS_TABLE": "TenantsTable", "IDEMPOTENCY_TABLE": "Idempotency",
    "IMPORTS_BUCKET": "imports", "DEFAULT_TENANT": "default", "SUBJECT_KEY": "mayfly",
    "PAGE_LIMIT": "0", "TENANT_LIMIT": "0",
}  # fmt: skip

_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "page": lambda reply: reply["statusCode"] == 200,
    "job": lambda reply: reply["statusCode"] == 202,
    "key": lambda reply: reply["context"].get("tenant") == "default",
    "batch": lambda reply: reply["batchItemFailures"] == [],
}


def _prune_botocore(folder: Path) -> None:
    """Copies the data of botocore that DynamoDB's client reads; of endpoints, only DynamoDB's."""
    data = Path(botocore.__file__).parent / "data"
    for name in _DATA:
        found, copy = data / name, folder / name
        folder.mkdir(exist_ok=True)
        shutil.copytree(found, copy) if found.is_dir() else shutil.copy(found, copy)
    endpoints = json.loads((data / "endpoints.json").read_text())
    usual = endpoints["partitions"][0]
    pruned = {**usual, "services": {"dynamodb": usual["services"]["dynamodb"]}}
    (folder / "endpoints.json").write_text(json.dumps({**endpoints, "partitions": [pruned]}))


def _answers(api_key: ApiKey) -> dict[str, Any]:
    """Returns the store's answers by operation: a counter, and an API key.

    The key was used a moment ago. Its use is therefore not stored, and the authorizer makes one
    read.
    """
    item = key_item(api_key) | {"last_used_at": {"N": str(_now_ms())}}
    counter = {"value": {"N": "1"}, "last": {"S": "0123456789abcdef"}}
    return {"GetItem": {"Item": item}, "UpdateItem": {"Attributes": counter}}


def _normalised(sample: _Sample, factor: float) -> _Sample:
    start = sample.start
    times = {name: getattr(start, name) * factor for name in ("init", "first", "warm")}
    return replace(sample, start=replace(start, **times))


def _table(say: Callable[[str], None], rounds: dict[_Row, list[_Sample]]) -> dict[str, Any]:
    say(
        f"{SAMPLES} interleaved rounds; CPU ms of the process, normalised by a calibration loop "
        "beside each sample"
    )
    say(
        f"  {'':<34} {'init':>6} {'first':>6} {'both':>6} {'of stock':>22} "
        f"{'warm':>6} {'of stock':>8} {'MB':>5} {'calls':>5}"
    )
    figures: dict[str, Any] = {}
    named = {row.name: samples for row, samples in rounds.items()}
    for row, samples in rounds.items():
        stock = named[row.stock]
        starts = sorted(_ratios(samples, stock, lambda start: start.init + start.first))
        warm = statistics.median(_ratios(samples, stock, lambda start: start.warm))
        facts = {
            "init": statistics.median(sample.start.init for sample in samples),
            "first call": statistics.median(sample.start.first for sample in samples),
            "both": statistics.median(sample.start.init + sample.start.first for sample in samples),
            "warm call": statistics.median(sample.start.warm for sample in samples),
        }
        memory = statistics.median(sample.start.rss_mb for sample in samples)
        calls = statistics.median(sample.calls for sample in samples)
        ratio = statistics.median(starts)
        say(
            f"  {row.name:<34} {facts['init']:>6.0f} {facts['first call']:>6.1f} "
            f"{facts['both']:>6.0f} {ratio:>7.2f} ({starts[0]:.2f} to {starts[-1]:.2f}) "
            f"{facts['warm call']:>6.2f} {warm:>8.2f} {memory:>5.1f} {calls:>5.1f}"
        )
        figures |= {
            **{f"{row.name}: {name}, CPU ms": round(value, 2) for name, value in facts.items()},
            f"{row.name}: init and first call, of {row.stock}": round(ratio, 3),
            f"{row.name}: warm call, of {row.stock}": round(warm, 3),
            f"{row.name}: MB after the warm calls": round(memory, 1),
            f"{row.name}: calls to the store": calls,
        }
    return figures


def _ratios(
    samples: list[_Sample], stock: list[_Sample], figure: Callable[[Start], float]
) -> list[float]:
    """Returns the ratio of two rows in each round."""
    return [
        figure(sample.start) / figure(other.start)
        for sample, other in zip(samples, stock, strict=True)
    ]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
