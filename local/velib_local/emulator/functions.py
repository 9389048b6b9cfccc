"""Functions under the real functions-framework, started when events come, as the platform does."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
from velib_core.events import messages
from velib_core.events.topics import TOPICS
from velib_core.lake.artefact import RaceLostError

from velib_local.emulator import fork_server, processes
from velib_local.emulator.fork_server import ForkedProcess

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from pathlib import Path

    from velib_deploy.function_specs import FunctionSpec

DIED = 0
"""The status of a call whose process ended before it answered."""

TOO_MANY_REQUESTS = 429
GATEWAY_TIMEOUT = 504

HANG_S = 900.0
"""Without limits, a call that takes so long hangs; the platform allows 540 s at most."""

FOLLOWERS_PRIORITY = 5
"""On one machine all functions share its processors. The one that ingestion waits for goes first;
what follows the newest snapshot then skips those that were overtaken, as in the cloud."""

_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


class LocalFunction:
    """One function and its instances.

    Without limits it has one instance, and events wait until that one is free. With limits it is
    held to its ``function.toml``, as the platform does: it has up to ``max_instances``, an event
    that finds none free is answered 429, a call longer than ``timeout_s`` is answered 504, and an
    instance that takes more than ``memory`` is killed.
    """

    def __init__(
        self, spec: FunctionSpec, env: Mapping[str, str], log: Path, *, limited: bool = False
    ) -> None:
        self.spec = spec
        self._env = dict(env)
        self._log = log
        self._log_before = log.stat().st_size if log.exists() else 0
        self._limited = limited
        self._most = spec.max_instances if limited else 1
        self._timeout_s = float(spec.timeout_s) if limited else HANG_S
        self._instances: list[_Instance] = []
        self._changed = threading.Condition()
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether an event is being handled right now."""
        return any(instance.busy for instance in list(self._instances))

    @property
    def pids(self) -> list[int]:
        """The processes that run now, each the parent of its workers."""
        return [i.process.pid for i in list(self._instances) if i.process.poll() is None]

    def lost_races(self) -> int:
        """Return how many events the function gave back because another writer was first."""
        if not self._log.exists():
            return 0
        with self._log.open(encoding="utf-8", errors="replace") as lines:
            lines.seek(self._log_before)
            return sum(RaceLostError.__name__ in line and "will retry" in line for line in lines)

    def call(self, body: bytes, path: str) -> tuple[int, float]:
        """Deliver a push body; return the HTTP status and how many seconds an instance took.

        It is `DIED` where the process ended on the way. A call that takes too long costs its
        instance the life. The wait for an instance is not part of the seconds.
        """
        instance = self._take()
        started = time.monotonic()
        if instance is None:
            return DIED if self._closed else TOO_MANY_REQUESTS, 0.0
        status = self._post(instance, body, path)
        return status, time.monotonic() - started

    def _post(self, instance: _Instance, body: bytes, path: str) -> int:
        try:
            return instance.post(path, body, self._timeout_s)
        except TimeoutError:
            self._end(instance)
            return GATEWAY_TIMEOUT
        except (processes.LocalServerError, http.client.HTTPException, OSError):
            return DIED
        finally:
            with self._changed:
                instance.busy -= 1
                self._changed.notify()

    def kill(self) -> None:
        """Kill an instance and its workers at once, one at work if any is."""
        with self._changed:
            running = sorted(self._instances, key=lambda instance: -instance.busy)
        for victim in running[:1]:
            self._end(victim)

    def close(self) -> None:
        """Kill every instance for good: what is delivered later starts no other."""
        with self._changed:
            self._closed = True
            running = list(self._instances)
            self._changed.notify_all()
        for instance in running:
            self._end(instance)

    def end_what_takes_too_much_memory(self) -> None:
        """Kill each instance above the memory of the function's configuration; log it."""
        limit = memory_bytes(self.spec.memory)
        for instance in list(self._instances):
            taken = _resident_bytes(instance.process.pid, limit)
            if taken > limit:
                self._end(instance)
                with self._log.open("a", encoding="utf-8") as sink:
                    sink.write(f"killed: {taken >> 20} MiB, of {self.spec.memory} allowed\n")

    def _take(self) -> _Instance | None:
        """Return an instance with a free slot, ``None`` where there is none to be had."""
        with self._changed:
            while not self._closed:
                for dead in [i for i in self._instances if i.process.poll() is not None]:
                    self._instances.remove(dead)
                    dead.stop()
                slots = self.spec.concurrency
                free = next((i for i in self._instances if i.busy < slots), None)
                if free is None and len(self._instances) < self._most:
                    free = _Instance(self.spec, self._env, self._log, anew=self._limited)
                    self._instances.append(free)
                if free is not None:
                    free.busy += 1
                    return free
                if self._limited:
                    return None
                self._changed.wait()
        return None

    def _end(self, instance: _Instance) -> None:
        with self._changed:
            if instance not in self._instances:
                return
            self._instances.remove(instance)
        instance.stop()


class _Instance:
    """One running instance: a process, its port, and how many events it handles now."""

    def __init__(
        self, spec: FunctionSpec, env: Mapping[str, str], log: Path, *, anew: bool
    ) -> None:
        self.busy = 0
        self._log = log
        self._port = processes.free_port()
        self._ready = threading.Event()
        self.process = self._start(spec, env, anew=anew)

    def _start(
        self, spec: FunctionSpec, env: Mapping[str, str], *, anew: bool
    ) -> subprocess.Popen[bytes] | ForkedProcess:
        arguments = ["--target", spec.entry_point, "--source", str(spec.folder / "main.py")]
        arguments += ["--signature-type", "cloudevent"]
        arguments += ["--host", "127.0.0.1", "--port", str(self._port)]
        own = {"K_SERVICE": spec.name, "WORKERS": "1", "THREADS": str(spec.concurrency)}
        environment = {**env, **own}
        process: subprocess.Popen[bytes] | ForkedProcess
        if fork_server.IS_AVAILABLE and not anew:
            process = ForkedProcess(arguments, environment, self._log)
        else:
            command = [sys.executable, "-m", "functions_framework", *arguments]
            with self._log.open("ab") as sink:
                process = processes.start(command, env=environment, stdout=sink, stderr=sink)
        if TOPICS[messages.Tick] not in spec.topics:
            os.setpriority(os.PRIO_PROCESS, process.pid, FOLLOWERS_PRIORITY)
        return process

    def stop(self) -> None:
        """Kill the process with its workers; call it once."""
        if isinstance(self.process, ForkedProcess):
            self.process.stop()
        else:
            processes.stop(self.process)

    def post(self, path: str, body: bytes, timeout_s: float) -> int:
        """Send a push body once the process listens; return the HTTP status.

        A connection a call: the framework's worker closes it after each.
        """
        if not self._ready.is_set():
            url = f"http://127.0.0.1:{self._port}/"
            processes.wait_until_answering(url, self.process, self._log)
            self._ready.set()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status


def memory_bytes(text: str) -> int:
    """Return the bytes of a memory size as Cloud Functions writes it, such as ``512Mi``."""
    return int(text[:-2]) * _UNITS[text[-2:]]


def _resident_bytes(pid: int, enough: int) -> int:
    """Return the resident memory of a process and its workers, what they share counted once.

    Shared pages take long to separate, so that is done only where the simple sum is above
    ``enough``. 0 where the process has ended.
    """
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        simple = sum(member.memory_info().rss for member in family)
        if simple <= enough:
            return simple
        full = [member.memory_full_info() for member in family]
        return sum(getattr(member, "pss", member.rss) for member in full)
    except psutil.Error:
        return 0
