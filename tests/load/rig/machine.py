"""Processes and what the kernel says about them.

Every program the rig starts is the leader of its own process group, is pinned to one core, and is
gone when its `Running` is closed: nothing is ever stopped by name.
"""

from __future__ import annotations

import os
import platform
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Iterator

PROXY_CPU = 0
LOAD_CPU = 1

# Where we may, everything we start goes before what else runs on the machine, and the load generator
# and the origin go before the proxy: time that they wait would be taken for the proxy's.
PROXY_NICE = -10
LOAD_NICE = -19

# Programs we start are given this long to listen and to end.
PATIENCE = 15.0


class RigError(Exception):
    """Something that makes one measurement impossible; the others go on."""


def require_two_cores() -> None:
    cores = os.sched_getaffinity(0)
    if not {PROXY_CPU, LOAD_CPU} <= cores:
        raise SystemExit(f"load: two cores are needed, this process may use {sorted(cores)}")


def raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle(cpus: set[int], nice: int) -> None:
    """Pins and ranks the calling process; meant for the moment between fork and exec."""
    os.sched_setaffinity(0, cpus)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        # Where the kernel groups processes by session, niceness ranks only inside the group.
        with open("/proc/self/autogroup", "w", encoding="ascii") as group:
            group.write(str(nice))
    except OSError:
        pass


@contextmanager
def awake(seconds: float) -> Iterator[None]:
    """Keeps both cores from halting, with work that anything else comes before.

    On a virtual machine a halted core takes longer to wake than a request takes in any proxy, and how long
    depends on its neighbours. The work ends by itself if we do not come to end it.
    """

    def idle(cpu: int) -> None:
        settle({cpu}, 19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        most = int(seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))

    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [
        subprocess.Popen(spin, preexec_fn=partial(idle, cpu), start_new_session=True)
        for cpu in (PROXY_CPU, LOAD_CPU)
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def describe() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{os.cpu_count()} × {model}, {platform.system()} {platform.release()}"


def free_port() -> int:
    """A port nobody listens on, nor on the next one, below those the kernel gives to connections."""
    for _ in range(1000):
        port = random.randrange(10_000, 32_000)
        if is_free(port) and is_free(port + 1):
            return port
    raise RigError("no free port")


def is_free(port: int) -> bool:
    # Without SO_REUSEPORT, so that a left-over listener that has it is seen.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclass
class Running:
    """A program with its children."""

    name: str
    process: subprocess.Popen
    output: Path

    @classmethod
    def start(cls, name: str, command: list[str], cpu: int, folder: Path) -> "Running":
        nice = PROXY_NICE if cpu == PROXY_CPU else LOAD_NICE
        output = folder / f"{name}.out"
        with output.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: settle({cpu}, nice),
            )
        return cls(name, process, output)

    def listens(self, port: int) -> None:
        """Waits until the port accepts connections."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        words = self.output.read_text(errors="replace")[-2000:]
        raise RigError(f"{self.name} does not listen on {port}; it said:\n{words}")

    def tree(self) -> list[int]:
        """The process and all its descendants, found by their parents."""
        parents: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry))
        found, open_ends = [], [self.process.pid]
        while open_ends:
            pid = open_ends.pop()
            found.append(pid)
            open_ends += parents.get(pid, [])
        return found

    def cpu_seconds(self) -> float:
        """CPU time of all threads of the tree, in nanosecond steps."""
        total = 0
        for pid in self.tree():
            for tid in threads(pid):
                try:
                    text = Path(f"/proc/{pid}/task/{tid}/schedstat").read_text()
                except OSError:
                    continue
                total += int(text.split()[0])
        return total / 1e9

    def resident(self) -> int:
        """Resident bytes of the tree; pages that its processes share are counted for each."""
        total = 0
        for pid in self.tree():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            for line in status.splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total

    def unpin_all_but(self, worker: str) -> None:
        """Leaves the worker on the proxy's core and moves the rest to the other one."""
        for pid in self.tree():
            command = Path(f"/proc/{pid}/cmdline").read_text()
            for tid in threads(pid):
                name = Path(f"/proc/{pid}/task/{tid}/comm").read_text()
                if not name.startswith(worker) and not command.startswith(worker):
                    os.sched_setaffinity(tid, {LOAD_CPU})

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def close(self) -> None:
        """Ends the whole group and makes sure of it."""
        known = self.tree()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass
            deadline = time.monotonic() + (3.0 if number == signal.SIGTERM else PATIENCE)
            while time.monotonic() < deadline:
                self.process.poll()
                if not any(alive(pid) for pid in known):
                    return
                time.sleep(0.02)
        raise SystemExit(f"load: {self.name} (pid {self.process.pid}) cannot be ended")

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def threads(pid: int) -> list[int]:
    try:
        return [int(tid) for tid in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # A zombie whose parent has gone is reaped by init in its own time.
    return stat.rpartition(")")[2].split()[0] != "Z"
