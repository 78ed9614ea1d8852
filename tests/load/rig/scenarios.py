"""What is measured. Each scenario starts a fresh proxy, warms it up, and gives its figures.

A figure's name is its column in the report; the report takes the median over the rounds.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from . import origin, peers, tools
from .machine import PATIENCE, RigError, Running, free_port
from .peers import Peer

Figures = dict[str, float]

HOST = peers.host(73)
CONNECTIONS = 64
IDLE = 1000
RATE = 1000
ROUTES = 10_000
# How many times a round takes over a changed file.
RELOADS = 3


@dataclass
class Place:
    """Where and how long to measure."""

    folder: Path
    origin: int
    seconds: float

    def fresh(self) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.folder


def measured(running: Running, load: Callable[[], tools.Load]) -> tuple[tools.Load, float, float]:
    """The load, the CPU seconds it cost the proxy, and how busy the proxy's core was."""
    before, began = running.cpu_seconds(), time.monotonic()
    done = load()
    cpu, took = running.cpu_seconds() - before, time.monotonic() - began
    if cpu <= 0:
        raise RigError("the proxy used no CPU: somebody else answered")
    if done.bad > done.requests / 1000:
        raise RigError(f"{done.bad} of {done.requests + done.bad} requests failed")
    return done, cpu, cpu / took


def requests(peer: Peer, place: Place) -> Figures:
    port = free_port()
    with peer.start(place.fresh(), port, place.origin) as running:
        tools.wrk(port, HOST, "/small", CONNECTIONS, 1)
        load, cpu, busy = measured(
            running, lambda: tools.wrk(port, HOST, "/small", CONNECTIONS, place.seconds)
        )
        return {
            "requests per CPU second": load.requests / cpu,
            "requests/s": load.requests / load.seconds,
            "core busy %": busy * 100,
            "p50 ms": load.p50 / 1e3,
            "p99 ms": load.p99 / 1e3,
            "RSS MiB": running.resident() / 2**20,
        }


def http2(peer: Peer, place: Place) -> Figures:
    port = free_port()
    with peer.start(place.fresh(), port, place.origin) as running:
        own = port + peer.h2_offset

        def load(seconds: float) -> tools.Load:
            return tools.h2load(own, HOST, "/small", seconds, place.folder, clients=8, streams=8)

        load(1)
        done, cpu, busy = measured(running, lambda: load(place.seconds))
        return {
            "requests per CPU second": done.requests / cpu,
            "requests/s": done.requests / done.seconds,
            "core busy %": busy * 100,
            "p50 ms": done.p50 / 1e3,
            "p99 ms": done.p99 / 1e3,
            "RSS MiB": running.resident() / 2**20,
        }


def bodies(peer: Peer, place: Place) -> Figures:
    port = free_port()
    with peer.start(place.fresh(), port, place.origin) as running:
        tools.wrk(port, HOST, "/large", 4, 1)
        load, cpu, busy = measured(
            running, lambda: tools.wrk(port, HOST, "/large", 4, place.seconds)
        )
        return {
            "GB per CPU second": load.received / cpu / 1e9,
            "GB/s": load.received / load.seconds / 1e9,
            "core busy %": busy * 100,
            "RSS MiB": running.resident() / 2**20,
        }


def latency(peer: Peer | None, place: Place) -> Figures:
    """1,000 requests per second over 10 connections; without a proxy for the base line."""
    port = free_port()

    def load(port: int, seconds: float) -> tools.Load:
        return tools.h2load(
            port, HOST, "/small", seconds, place.folder, clients=10, rate=RATE, http1=True
        )

    if peer is None:
        place.fresh().mkdir(parents=True)
        load(place.origin, 1)
        done = load(place.origin, place.seconds)
        return {"p50 µs": done.p50, "p99 µs": done.p99}
    with peer.start(place.fresh(), port, place.origin) as running:
        load(port, 1)
        done, cpu, _ = measured(running, lambda: load(port, place.seconds))
        return {
            "p50 µs": done.p50,
            "p99 µs": done.p99,
            "CPU ms per 1,000 requests": cpu / done.requests * 1e6,
        }


def memory(peer: Peer, place: Place) -> Figures:
    """Resident at start, and what an idle connection adds after one request."""
    port = free_port()
    with peer.start(place.fresh(), port, place.origin) as running:
        settled(running)
        start = running.resident()
        # What the first request allocates once is not the connections' fault.
        first = [one_idle(port) for _ in range(8)]
        before = settled(running)
        idle = [one_idle(port) for _ in range(IDLE)]
        after = settled(running)
        for connection in first + idle:
            connection.close()
        return {
            "RSS at start MiB": start / 2**20,
            "KiB per idle connection": (after - before) / IDLE / 1024,
        }


def settled(running: Running) -> int:
    """Resident bytes once they stop changing."""
    last, same, deadline = running.resident(), 0, time.monotonic() + 5
    while same < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
        now = running.resident()
        same = same + 1 if now == last else 0
        last = now
    return last


def one_idle(port: int) -> socket.socket:
    """A kept connection that has had one answer."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    connection.sendall(f"GET /small HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < origin.SMALL:
        more = connection.recv(4096)
        if not more:
            raise RigError(f"an idle connection ended: {got[:200]!r}")
        got += more
    if not got.startswith(b"HTTP/1.1 200"):
        raise RigError(f"an idle connection got {got[:200]!r}")
    return connection


def reload(peer: Peer, place: Place) -> Figures:
    """A file of 10,000 routes taken over, again and again, under 1,000 requests per second."""
    if peer.reloads is None:
        raise RigError("does not take over a changed file by itself")
    port, folder = free_port(), place.fresh()
    with peer.start(folder, port, place.origin) as running:
        if peer.worker:
            running.unpin_all_but(peer.worker)
        windows: list[tuple[float, float]] = []
        failed: list[RigError] = []
        # Written before the load begins, which shares a core with us.
        files = [large_file(peer, folder, port, place.origin, turn) for turn in range(RELOADS)]

        def change() -> None:
            try:
                time.sleep(2)
                for file, newest in files:
                    windows.append(take_over(peer, running, file, port, newest))
                    time.sleep(1.5)
            except RigError as error:
                failed.append(error)

        changing = threading.Thread(target=change)
        changing.start()
        seconds = 2 + RELOADS * 4
        load = tools.h2load(
            port, HOST, "/small", seconds, folder, clients=10, rate=RATE, http1=True
        )
        changing.join()
        if failed:
            raise failed[0]
        if load.bad:
            raise RigError(f"{load.bad} requests failed")
        during = [took for at, took in load.samples if any(a <= at / 1e6 <= b for a, b in windows)]
        begins = min(a for a, _ in windows)
        # The first half second is the load's own start.
        first = min(at for at, _ in load.samples) / 1e6 + 0.5
        quiet = [took for at, took in load.samples if first <= at / 1e6 < begins]
        return {
            "write to served ms": tools.median([(b - a) * 1e3 for a, b in windows]),
            "p99 ms without": tools.percentile(quiet, 0.99) / 1e3,
            "p99 ms during": tools.percentile(during, 0.99) / 1e3,
            "RSS MiB": running.resident() / 2**20,
        }


def large_file(peer: Peer, folder: Path, port: int, target: int, turn: int) -> tuple[Path, str]:
    """A file beside the one that runs, and a host that no file before it had."""
    count = ROUTES + turn
    if peer.name == "nginx":
        text = peers.nginx_conf(folder, port, target, count)
    else:
        text = peers.sluice_toml(folder, port, target, count, True)
    path = folder / f"{turn}.new"
    path.write_text(text)
    return path, peers.host(count - 1)


def take_over(
    peer: Peer, running: Running, file: Path, port: int, newest: str
) -> tuple[float, float]:
    """Moves the file over the one that runs; from then until its newest host is served."""
    began = time.time()
    os.replace(file, file.parent / str(peer.reloads))
    if peer.signal is not None:
        running.signal(peer.signal)
    while time.time() < began + PATIENCE:
        if served(port, newest):
            return began, time.time()
        time.sleep(0.01)
    words = running.output.read_text(errors="replace")[-600:]
    raise RigError(f"a changed file was not taken over; it said:\n{words}")


def served(port: int, name: str) -> bool:
    """Asked over a fresh connection: an old worker may finish the old ones."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/small", headers={"Host": name})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@dataclass(frozen=True)
class Scenario:
    """A table of the report."""

    name: str
    title: str
    measure: Callable[[Peer, Place], Figures]
    # Measured without a proxy, too.
    direct: bool = False
    # Measured for sluice without its access log, too.
    bare: bool = False


ALL = [
    Scenario("requests", f"HTTP/1.1, {CONNECTIONS} kept connections", requests, bare=True),
    Scenario("http2", "HTTP/2 with prior knowledge, 8 connections with 8 streams", http2),
    Scenario("bodies", "Bodies of 10 MiB, 4 connections", bodies),
    Scenario("latency", "1,000 requests per second, 10 connections", latency, direct=True),
    Scenario("memory", f"Memory, {IDLE:,} idle connections", memory),
    Scenario("reload", f"A file of {ROUTES:,} routes taken over", reload),
]
