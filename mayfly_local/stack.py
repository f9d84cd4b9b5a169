"""The whole stack: it starts, keeps running, and stops without losing anything.

template --> emulator (child) --> state deployed and verified --> compute: pools of processes
                                                                    ^   ^   ^   ^
                                            HTTP API ---------------+   |   |   +-- streams
                                            queues ---------------------+   |
                      emulator (SNS, EventBridge, S3, Invoke), schedules ---+
"""

import asyncio
import contextlib
import logging
import math
import os
import shlex
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
from botocore.exceptions import BotoCoreError

from mayfly_local.account import REGION
from mayfly_local.advance import Advance, Parts
from mayfly_local.api_port import port_taken
from mayfly_local.application.apis import ApiKind, AuthorizerKind
from mayfly_local.application.build import build
from mayfly_local.application.classes import table
from mayfly_local.application.model import Application
from mayfly_local.application.template import Template, load
from mayfly_local.compute.archives import archives, unpack
from mayfly_local.compute.debugging import debug_launch, debug_ports
from mayfly_local.compute.environment import Environment
from mayfly_local.compute.installations import Installations
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.compute.launch import Launch
from mayfly_local.compute.launches import launches, python_version_note
from mayfly_local.compute.pool import Pool, Starts, environment_limit
from mayfly_local.compute.reload import Reload
from mayfly_local.emulator.clients import Clients
from mayfly_local.emulator.control import Control
from mayfly_local.emulator.deployment import Deployment, deploy
from mayfly_local.emulator.handover import Roles
from mayfly_local.emulator.lookups import naming_unknown, stored_parameters
from mayfly_local.emulator.process import Emulator, free_port
from mayfly_local.emulator.ttl import Reaper
from mayfly_local.errors import LocalError, TemplateError
from mayfly_local.iam.credentials import FOREIGN, Keys, emulator_variables
from mayfly_local.logs import Log, Logs
from mayfly_local.options import Options
from mayfly_local.ports.access import Access
from mayfly_local.ports.peers import is_peer
from mayfly_local.processes.children import Children
from mayfly_local.processes.clock import Clock
from mayfly_local.processes.folders import why_not
from mayfly_local.sources.asynchronous import Asynchronous
from mayfly_local.sources.authorizations import Guests
from mayfly_local.sources.destinations import Destinations
from mayfly_local.sources.listeners import Listeners, main_api
from mayfly_local.sources.log_tails import LogTails
from mayfly_local.sources.positions import Positions
from mayfly_local.sources.queues import QueuePoller
from mayfly_local.sources.requests import EmulatorRequests, OwnRequests
from mayfly_local.sources.schedules import Scheduler
from mayfly_local.sources.sender import Sender
from mayfly_local.sources.streams import StreamPoller
from mayfly_local.stack_file import StackFile

__all__ = ["Stack"]

_REAP_SECONDS: Final = 1.0
#: Seconds of a long poll. The emulator ends its own at a stop; another endpoint holds a stop up.
_POLL_SECONDS: Final = 5
_FOREIGN_POLL_SECONDS: Final = 1
#: Seconds that the start waits for packages. Afterwards only calls of their functions wait.
_INSTALL_SECONDS: Final = 3.0
#: The stack stops with an error if the emulator ends more often than this within these seconds.
_MOST_ENDS: Final = 3
_ENDS_SECONDS: Final = 60.0
#: Connections that the API accepts at once, even if the system allows few open files.
_FEWEST_CONNECTIONS: Final = 64


class Stack:
    """A running stack."""

    def __init__(
        self,
        options: Options,
        logs: Logs,
        *,
        files: int,
        children: Children,
        keys: Keys,
        emulator: Emulator | None,
        clock: Clock,
    ) -> None:
        self._options = options
        self._files = files
        self._logs = logs
        self._log = logs.of("mayfly")
        _send_to(self._log, "aiohttp", "asyncio")
        self._children = children
        self._emulator = emulator
        self._clock = clock
        self._advance: Advance | None = None
        self._schedulers: list[Scheduler] = []
        self._reaper: Reaper | None = None
        #: Requests of tests that are being served.
        self._serving: set[asyncio.Task[None]] = set()
        self._invocations = 0
        self._clients: Clients | None = None
        self._listeners: Listeners | None = None
        self._roles: Roles | None = None
        self._control: Control | None = None
        self._positions: Positions | None = None
        self._starts = Starts()
        self._reload: Reload | None = None
        self._keys = keys
        self._pools: dict[str, Pool] = {}
        self._function_logs: dict[str, Log] = {}
        self._launches: dict[str, Launch] = {}
        self._pollers: list[QueuePoller | StreamPoller] = []
        self._background: list[asyncio.Task[Any]] = []
        self._poller_tasks: list[asyncio.Task[Any]] = []
        self._asynchronous: Asynchronous | None = None
        self._running: asyncio.Task[None] | None = None
        self._own_requests: OwnRequests | None = None
        self._installations: Installations | None = None
        #: Functions whose packages were not there yet when the stack was up.
        self._waiting: list[str] = []
        self._after_deploy: list[str] = []
        #: Absent parts that a function's failure has named already.
        self._named_parts: set[str] = set()
        #: The reason why functions have no folders of their own.
        self._no_folders: str | None = None
        self.application: Application | None = None
        self._archives: list[Path] = []
        #: The emulator's ids of the state, by logical id.
        self._physical: dict[str, str] = {}
        #: Ports of the debuggers of functions.
        self._debug_ports: dict[str, int] = {}
        self._debugged: dict[str, Launch] = {}
        #: The current step of the start, for a terminal.
        self.step = "starting the emulator, and transforming the template"

    async def start(self) -> None:
        """Starts everything, in the order of the picture above."""
        options = self._options
        # The emulator's process starts meanwhile.
        probing = asyncio.ensure_future(asyncio.to_thread(why_not))
        clients, template = await asyncio.gather(self._open_emulator(), self._load())
        if stored := await stored_parameters(template, clients):
            template = await self._load(stored)
        with naming_unknown(template):
            self.step = "creating the tables, queues and buckets"
            deployed = await deploy(template, clients)
            self._physical = deployed.physical
            self.step = "preparing the functions"
            written = build(
                deployed.template, deployed.scope, api_url=self._api_url, next_port=free_port,
                strict=options.strict, report=deployed.report,
            )  # fmt: skip
        self._archives = archives(written)
        self._debug_ports = debug_ports(options.debug, written.functions, free_port)
        self.application = app = await asyncio.to_thread(unpack, written, _cache(options))
        if clients.is_guarded:
            clients.keys = self._keys = self._keys.for_functions(app.functions)
        self._no_folders = await probing
        making = clients.run(
            launches, application=app, endpoint=clients.endpoint, keys=self._keys,
            cache=_cache(options), work=options.work, pure_python=options.pure_python,
            own_folders=self._no_folders is None, clock=self._clock.path,
        )  # fmt: skip
        # Meanwhile the access guard in the emulator loads its engine.
        (self._launches, wanted), problems = await asyncio.gather(making, self._hand_over(app))
        if problems:
            raise TemplateError(options.template, problems)
        self._debugged = {
            name: debug_launch(self._launches[name], port, cache=_cache(options))
            for name, port in self._debug_ports.items()
        }
        self._installations = Installations(wanted, cache=_cache(options), say=self._logs.say)
        for name, function in app.functions.items():
            self._function_logs[name] = self._logs.of(name)
            is_debugged = name in self._debugged
            self._pools[name] = Pool(
                self._starter(name), limit=1 if is_debugged else environment_limit(function.limit),
                idle_seconds=math.inf if is_debugged else options.idle, starts=self._starts,
            )  # fmt: skip
        self._write_stack_file(app, deployed, clients)
        await self._listen(app)
        self._serve_sources(app, deployed, clients)
        self.step = "running the commands of AfterDeploy"
        await self._run_after_deploy(app, clients)
        self.step = "installing packages"
        self._waiting = await self._installations.settle(_INSTALL_SECONDS)
        for name in self._debugged:
            self._pools[name].warm()

    async def _load(self, more: Mapping[str, str] | None = None) -> Template:
        """Returns the template, with `more` parameters than the options give."""
        options = self._options
        return await asyncio.to_thread(
            load, path=options.template, cache=_cache(options),
            parameters={**options.parameters, **(more or {})},
            layers=options.layers, strict=options.strict,
        )  # fmt: skip

    def announce(self, seconds: float) -> None:
        """Shows the addresses, keys and notes of the stack on the terminal."""
        app, clients = self.application, self._clients
        assert app is not None
        assert clients is not None
        say = self._logs.say
        say(f"{app.name} is up after {seconds:.1f} s")
        for line in _api_lines(app) or [f"API       none ({self._api_url} knows no route)"]:
            say(f"  {line}")
        for line in self._after_deploy:
            say(f"  {line}")
        for name, value in app.outputs.items():
            say(f"  {name:<9} {value}")
        say(f"  store     {clients.endpoint}  (for SDKs and the AWS CLI: {self._env_command})")
        if self._emulator is not None:
            say(f"  access    {self._keys.people.id}  (access key of the emulator, for SDKs)")
        for name, port in self._debug_ports.items():
            say(f"  debug     {name} at 127.0.0.1:{port}  (attach debugpy; its timeouts are off)")
        say(f"  logs      {self._options.work}/logs")
        for line in table(app.parts):
            say(f"  {line}")
        for note in self._notes(app, clients):
            if note:
                say(f"  note      {note}")
        say("stop with Ctrl-C")

    def _notes(self, app: Application, clients: Clients) -> list[str | None]:
        """Returns what a user should know about this run, and None for what does not apply."""
        notes: list[str | None] = [*_role_notes(app, clients), python_version_note(app)]
        if self._waiting:
            notes.append(
                f"packages of {', '.join(self._waiting)} are still being installed; calls wait"
            )
        if self._options.any_credentials:
            notes.append(
                "the emulator accepts any credentials (--any-credentials): every program on this "
                "machine can read and write its data"
            )
        if self._no_folders is not None:
            notes.append(
                "functions can write to their code's folder here, and share /tmp "
                f"({self._no_folders})"
            )
        return notes

    async def broken(self) -> str:
        """Waits until a part that the stack needs has failed, and returns the reason."""
        parts = {*self._background, *self._poller_tasks}
        if self._running is not None:
            parts.add(self._running)
        while parts:
            done, parts = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                # A part may end, such as a schedule without further times, but not by an error.
                if part.cancelled() or (error := part.exception()) is None:
                    continue
                return (
                    str(error)
                    if isinstance(error, LocalError)
                    else f"a part of the runtime failed: {type(error).__name__}: {error}"
                )
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def drain(self) -> None:
        """Accepts no new work, and returns when no request and no batch of messages is running.

        Stream records that this work wrote are read after the next start.
        """
        if self._listeners is not None:
            self._listeners.refuse()
        for task in self._background:
            task.cancel()
        queues = [poller for poller in self._pollers if isinstance(poller, QueuePoller)]
        for queue in queues:
            queue.stop()
        if self._asynchronous is not None:
            self._asynchronous.drain()
        await self._end_waiting()
        while self._listeners is not None and self._listeners.is_busy:
            await asyncio.sleep(0.02)
        read_streams = {
            poller.function for poller in self._pollers if isinstance(poller, StreamPoller)
        }
        others = [pool for name, pool in self._pools.items() if name not in read_streams]
        while (
            any(poller.is_busy for poller in queues)
            or any(pool.is_busy for pool in others)
            or (self._asynchronous is not None and self._asynchronous.is_busy)
        ):
            await asyncio.sleep(0.02)
        for poller in self._pollers:
            poller.stop()
        await asyncio.gather(*self._poller_tasks, return_exceptions=True)

    async def release(self) -> int:
        """Makes unfinished messages visible again, and returns their number.

        First it kills the processes that still work on them.
        """
        for poller in self._pollers:
            poller.stop()
        await self._end_waiting()
        await asyncio.gather(*(pool.close(grace_seconds=0.5) for pool in self._pools.values()))
        if self._asynchronous is not None and (line := await self._asynchronous.stop()):
            self._logs.say(line)
        queues = [poller for poller in self._pollers if isinstance(poller, QueuePoller)]
        return sum(await asyncio.gather(*(poller.release() for poller in queues)))

    async def _end_waiting(self) -> None:
        """Ends the emulator's long polls, so that no poller holds up the stop."""
        if self._control is not None:
            await self._control.tell("stopping", {})
        if self._own_requests is not None:
            self._own_requests.close()

    async def close(self) -> None:
        """Stops everything that still runs."""
        StackFile.remove(self._options.work, pid=os.getpid())
        if self._listeners is not None:
            await self._listeners.close()
        tasks = [*self._background, *self._poller_tasks, *self._serving]
        if self._running is not None:
            tasks.append(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(pool.close(grace_seconds=0.5) for pool in self._pools.values()))
        if self._installations is not None:
            await self._installations.close()
        if self._control is not None:
            await self._control.close()
        if self._emulator is not None:
            await self._emulator.stop()
        if self._clients is not None:
            self._clients.close()
        await self._children.close()

    async def _open_emulator(self) -> Clients:
        options = self._options
        if options.endpoint is not None:
            self._clients = Clients(options.endpoint, FOREIGN)
            try:
                await self._clients.call("sqs", "list_queues")
            except (BotoCoreError, ValueError) as problem:
                raise LocalError(
                    f"the endpoint {options.endpoint} cannot be used: {problem}"
                ) from None
            return self._clients
        assert self._emulator is not None
        self._clients = Clients(self._emulator.endpoint, self._keys.runtime, self._keys)
        self._control = Control(self._emulator.endpoint, self._keys.runtime, self._log)
        # The emulator starts in its process while this one loads the SDK.
        for service in ("cloudformation", "dynamodb", "sqs", "s3"):
            await self._clients.run(self._clients.get, service=service)
        await self._emulator.answers()
        return self._clients

    @property
    def _api_url(self) -> str:
        return f"http://127.0.0.1:{self._options.port}"

    @property
    def _env_command(self) -> str:
        """Returns the shell command that selects this stack's endpoint."""
        program, work = Path(sys.argv[0]), self._options.work
        with contextlib.suppress(ValueError):
            program = program.absolute().relative_to(Path.cwd())
        where = "" if work == Path.cwd() / ".mayfly" else f" --work {shlex.quote(str(work))}"
        return f'eval "$({shlex.quote(str(program))} env{where})"'

    def _starter(self, name: str) -> Any:
        async def start() -> Environment | Failure:
            if self._installations is not None and (
                problem := await self._installations.ready(name)
            ):
                self._function_logs[name].line(problem)
                return Failure("Runtime.ImportModuleError", problem)
            launch = self._debugged.get(name, self._launches[name])
            environment = Environment(launch, self._function_logs[name])
            failure, _ = await asyncio.gather(
                environment.start(self._children), self._note_logging(name)
            )
            return failure or environment

        return start

    async def _note_logging(self, name: str) -> None:
        if self._roles is not None and self.application is not None:
            # While the emulator restarts, this use of a permission is not recorded.
            with contextlib.suppress(aiohttp.ClientError):
                await self._roles.note_logging(self.application.functions[name])

    async def _hand_over(self, app: Application) -> list[str]:
        """Hands roles, keys, mappings and the stack's description to the emulator.

        Returns the problems that would make AWS refuse to deploy.
        """
        if self._control is None:
            return []
        self._roles = Roles(self._control, self._keys)
        self._positions = self._positions or Positions(self._control)
        await self._control.ask("functions", _named(app))
        await self._control.ask("stack", _described(app, self._physical))
        problems = await self._roles.take(app)
        await self._positions.declare(
            {
                stream.name: {"stream": stream.stream_arn, "starts_at": stream.starts_at}
                for stream in app.streams
            }
        )
        return problems

    async def _keep_store(self, app: Application, expiring: dict[str, str]) -> None:
        """Restarts the emulator from its state whenever it ends.

        Raises LocalError if it keeps no state, or if it ends too often.
        """
        assert self._emulator is not None
        ends: list[float] = []
        while True:
            code = await self._emulator.ended()
            logs = f"see {self._options.work}/logs/mayfly.jsonl"
            if not self._emulator.is_kept:
                raise LocalError(
                    f"the emulator ended (exit code {code}), and its data is lost; start it with "
                    f"--state DIR to keep the data; {logs}"
                )
            ends = [moment for moment in ends if time.monotonic() - moment < _ENDS_SECONDS] + [
                time.monotonic()
            ]
            if len(ends) > _MOST_ENDS:
                raise LocalError(
                    f"the emulator ended {len(ends)} times within {_ENDS_SECONDS:.0f} s "
                    f"(exit code {code}); {logs}"
                )
            self._logs.say(f"the emulator ended (exit code {code}); it is restarted from its state")
            try:
                await self._emulator.start(self._children)
                await self._hand_over(app)
                if self._control is not None:
                    await self._control.ask("expiring", expiring)
            except (LocalError, aiohttp.ClientError, OSError) as problem:
                self._log.event("the emulator's start failed", "ERROR", reason=str(problem))
                await self._emulator.kill()
                continue
            self._logs.say("the emulator is up again")

    async def _invoke(self, function: str, invocation: Invocation) -> Reply | Failure:
        if (pool := self._pools.get(function)) is None:
            reason = f"{function} is not a function that runs here"
            self._log.event("invocation failed", "ERROR", error="Absent", reason=reason)
            return Failure("ResourceNotFoundException", reason)
        if self._reload is not None:
            self._reload.check()
        self._invocations += 1
        result = await pool.invoke(invocation)
        if isinstance(result, Failure):
            self._name_absent_parts(function)
        return result

    def _name_absent_parts(self, function: str) -> None:
        """Says once what a function misses here, as that may be why an invocation of it failed."""
        app = self.application
        for part in () if app is None else app.absent.get(function, ()):
            if part not in self._named_parts:
                self._named_parts.add(part)
                reason = f"{part} is absent on this machine"
                self._function_logs[function].event("absent part", "WARNING", reason=reason)

    async def _listen(self, app: Application) -> None:
        roles = {name: function.role for name, function in app.functions.items()}
        apis = [
            replace(
                api,
                routes=tuple(
                    replace(route, is_debugged=route.function in self._debugged)
                    for route in api.routes
                ),
            )
            for api in app.apis
        ]
        self._listeners = Listeners(
            apis or [main_api(self._api_url)],
            self._invoke,
            Guests(
                self._keys,
                roles,
                {name: each.arn for name, each in app.functions.items()},
                self._clock,
            ),
            self._log,
            lambda function: self._pools[function].limit if function in self._pools else 1,
        )
        access = Access(self._options.hosts, for_pages=True)
        most_connections = max(_FEWEST_CONNECTIONS, self._files // 4)
        await self._listeners.listen(access, most_connections=most_connections, taken=port_taken)

    def _serve_sources(self, app: Application, deployed: Deployment, clients: Clients) -> None:
        for queue in app.queues:
            self._pollers.append(
                QueuePoller(
                    queue, clients, self._invoke, self._log,
                    poll_seconds=_FOREIGN_POLL_SECONDS if self._control is None else _POLL_SECONDS,
                )
            )  # fmt: skip
        for stream in app.streams:
            self._pollers.append(
                StreamPoller(
                    stream, clients, self._invoke, self._log, self._positions, clock=self._clock
                )
            )
        self._poller_tasks = [asyncio.ensure_future(poller.run()) for poller in self._pollers]
        self._asynchronous = asynchronous = self._make_asynchronous(app, clients)
        self._running = asyncio.ensure_future(asynchronous.run())
        sender = Sender(clients)
        for schedule in app.schedules:
            scheduler = Scheduler(
                schedule, asynchronous.submit, sender, self._log, clock=self._clock
            )
            self._schedulers.append(scheduler)
            self._in_background(scheduler.run())
        if deployed.ttl:
            self._reaper = Reaper(
                deployed.ttl, clients, self._log, lag_seconds=self._options.ttl_lag,
                control=self._control, clock=self._clock,
            )  # fmt: skip
            self._in_background(self._reaper.run())
        self._serve_tests(asynchronous)
        if self._emulator is not None:
            self._in_background(self._keep_store(app, deployed.ttl))
        self._in_background(self._reap_idle())
        if self._options.reload:
            self._reload = Reload(
                app, [self._options.template, *self._archives], self._pools, self._logs.say,
                _cache(self._options) / "bytecode",
            )  # fmt: skip
            self._in_background(self._reload.run())

    def _serve_tests(self, asynchronous: Asynchronous) -> None:
        """Serves the requests of tests that come by way of the emulator."""
        if self._emulator is None or self._control is None:
            return
        if self._clock.can_move:
            pollers = self._pollers
            parts = Parts(
                pools=self._pools,
                queues=[poller for poller in pollers if isinstance(poller, QueuePoller)],
                streams=[poller for poller in pollers if isinstance(poller, StreamPoller)],
                schedulers=self._schedulers,
                asynchronous=asynchronous,
                reaper=self._reaper,
                started=lambda: self._invocations,
            )
            self._advance = Advance(self._clock, parts, self._control)
        self._emulator.requested = self._serve_test

    def _serve_test(self, request: dict[str, Any]) -> None:
        match request:
            case {"kill": {"function": function, "port": port}}:
                self._crash(function, port)
            case {"advance": arguments}:
                serving = asyncio.ensure_future(self._move_clock(**arguments))
                self._serving.add(serving)
                serving.add_done_callback(self._serving.discard)

    def _crash(self, function: str, port: int) -> None:
        """Kills the process of a function that holds the client's end of a connection.

        If the system does not tell which one that is, kills all that run an invocation.
        """
        assert self._emulator is not None
        busy = self._pools[function].busy
        server_port = self._emulator.port
        callers = [
            environment
            for environment in busy
            if is_peer(environment.pid, client_port=port, server_port=server_port)
        ]
        for environment in callers or busy:
            environment.crash()

    async def _move_clock(self, *, seconds: float, at_once: bool, number: int) -> None:
        assert self._control is not None
        try:
            if self._advance is None:
                raise LocalError(
                    "this stack's clock cannot be moved; start it with --movable-clock"
                )
            reply: dict[str, Any] = {
                "moves": await self._advance.by(seconds, at_once=at_once), "now": self._clock()
            }  # fmt: skip
        except (LocalError, aiohttp.ClientError, OSError) as problem:
            reply = {"problem": str(problem)}
        await self._control.tell("advanced", {"number": number, "reply": reply})

    def _make_asynchronous(self, app: Application, clients: Clients) -> Asynchronous:
        requests: EmulatorRequests | OwnRequests
        if self._control is not None:
            requests = EmulatorRequests(self._control)
        else:
            requests = self._own_requests = OwnRequests()
        return Asynchronous(
            app.functions,
            requests,
            self._invoke,
            destinations=Destinations(Sender(clients), self._log),
            log=self._log,
            tails=LogTails(self._function_logs),
            retry_seconds=self._options.retry_delay,
            keeps=self._options.state is not None,
            clock=self._clock,
        )

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        self._background.append(asyncio.ensure_future(work))

    async def _reap_idle(self) -> None:
        while True:
            await asyncio.sleep(_REAP_SECONDS)
            for pool in self._pools.values():
                await pool.reap()

    def _write_stack_file(self, app: Application, deployed: Deployment, clients: Clients) -> None:
        StackFile(
            pid=os.getpid(),
            name=app.name,
            template=str(self._options.template.resolve()),
            api_url=self._api_url,
            endpoint=clients.endpoint,
            region=REGION,
            credentials=self._keys.people.variables,
            resources=deployed.physical,
            launches={name: asdict(launch) for name, launch in self._launches.items()},
            outputs=app.outputs,
            apis={api.name: api.base_url for api in app.apis},
            absent=app.absent,
            issuers=_issuers(app),
        ).write(self._options.work)

    async def _run_after_deploy(self, app: Application, clients: Clients) -> None:
        """Runs the template's own commands, with this process's interpreter first on the path.

        The announcement shows their output. The work folder tells `mayfly` which stack is meant.
        """
        env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            "MAYFLY_WORK": str(self._options.work.resolve()),
            **emulator_variables(clients.endpoint, self._keys.people),
        }
        for command in app.after_deploy:
            process = await asyncio.create_subprocess_shell(
                command, env=env, cwd=self._options.template.resolve().parent,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            printed, _ = await process.communicate()
            text = printed.decode(errors="replace").strip()
            if process.returncode != 0:
                raise LocalError(f"the template's AfterDeploy command failed: {command}\n{text}")
            self._after_deploy += text.splitlines()


def _named(app: Application) -> dict[str, dict[str, Any]]:
    """Returns what the emulator's Lambda API tells about functions, by logical id."""
    return {
        name: {
            "name": function.function_name or name,
            "arn": function.arn,
            "runtime": function.runtime,
            "handler": function.handler,
            "timeout": function.timeout_seconds,
            "memory": function.memory_mb,
            "qualifiers": list(function.qualifiers),
        }
        for name, function in app.functions.items()
    }


def _described(app: Application, physical: Mapping[str, str]) -> dict[str, Any]:
    """Returns what the emulator's CloudFormation tells about the stack."""
    described = app.description
    return {
        "name": app.name,
        "text": described.text,
        "outputs": described.outputs,
        "resources": {
            name: (kind, reference or physical.get(name, name))
            for name, (kind, reference) in described.resources.items()
        },
    }


def _api_lines(app: Application) -> list[str]:
    """Returns a line for the address of each API, and for each API key that its routes need."""
    lines = []
    for api in app.apis:
        about = "" if len(app.apis) == 1 else f"  ({api.name}, {api.kind})"
        lines.append(f"{'API' if api.kind is not ApiKind.URL else 'URL':<9} {api.base_url}{about}")
        keys = sorted({key for stage_keys in api.api_keys.values() for key in stage_keys})
        lines += [f"{'API key':<9} {key}  (header x-api-key)" for key in keys]
    if issuers := _issuers(app):
        lines.append(f"{'tokens':<9} mayfly token --as USER  (authorizers: {', '.join(issuers)})")
    return lines


def _issuers(app: Application) -> dict[str, dict[str, Any]]:
    """Returns the authorizers that take tokens, with what `mayfly token` must know of them."""
    authorizers = [route.authorizer for api in app.apis for route in api.routes]
    return {
        authorizer.name: {
            "kind": str(authorizer.kind),
            "issuer": authorizer.issuer,
            "audience": list(authorizer.audience),
        }
        for authorizer in authorizers
        if authorizer is not None
        and authorizer.kind in (AuthorizerKind.JWT, AuthorizerKind.COGNITO)
    }


def _role_notes(app: Application, clients: Clients) -> list[str]:
    if not clients.is_guarded:
        return ["roles are not checked, because --endpoint-url names an endpoint of your own"]
    unknown = [name for name, function in app.functions.items() if function.role is None]
    conditional = [
        name
        for name, function in app.functions.items()
        if function.role is not None and function.role.has_conditions
    ]
    notes = {
        f"the calls of {', '.join(unknown)} are not checked, because the role is not in the "
        "template, or has a part that is absent here": unknown,
        f"conditions in the policies of {', '.join(conditional)} are not evaluated: an Allow "
        "with a condition always allows here, a Deny with one never denies": conditional,
    }
    return [note for note, about in notes.items() if about]


def _send_to(log: Log, *names: str) -> None:
    """Sends the logs of libraries to the runtime's own log, and not to the terminal.

    For example, a client that disconnects is not worth a line on the terminal.
    """

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log.event(
                "library",
                record.levelname,
                quiet=True,
                logger=record.name,
                text=self.format(record),
            )

    for name in names:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [Handler()], False


def _cache(options: Options) -> Path:
    return options.template.resolve().parent / ".mayfly" / "cache"
