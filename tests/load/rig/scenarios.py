"""What is measured. Each scenario starts a fresh proxy, warms it up, and gives its figures.

A figure's name is its column in the report; the report takes the median over the rounds.
"""

from __future__ import annotations

import http.client
import os
import resource
import shutil
import socket
import ssl
import threading
import time
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Callable

from . import datagrams, origin, own, tools, tunnels
from .configs import nginx, sluice
from .machine import PATIENCE, RigError, Running, awake, free_port
from .peers import Peer
from .work import ASKED, HOSTS, OWN, Pair, Work, host

Figures = dict[str, float]

HOST = host(ASKED)
CONNECTIONS = 64
IDLE = 1000
STREAMS = 8000
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
    pair: Pair

    def work(self, *, tls: bool = False, raw: bool = False, count: int = HOSTS) -> Work:
        """For a fresh proxy on a port of its own."""
        pair = self.pair if tls else None
        return Work(self.fresh(), free_port(), self.origin, count, pair, raw)

    def fresh(self) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.folder

    @property
    def outside(self) -> Path:
        """For what a proxy that watches its folder must not be woken by."""
        return self.folder.parent


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


def requests(peer: Peer, place: Place, tls: bool = False, raw: bool = False) -> Figures:
    work = place.work(tls=tls, raw=raw)
    with peer.start(work) as running:

        def load(seconds: float) -> tools.Load:
            return tools.wrk(work.port, work.asked(), "/small", CONNECTIONS, seconds, tls=tls)

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


def handshakes(peer: Peer, place: Place) -> Figures:
    """A connection per request, which the proxy answers by itself."""
    work = place.work(tls=True)
    with peer.start(work) as running:
        begins_anew(work)

        def load(seconds: float) -> tools.Load:
            return tools.wrk(work.port, work.asked(), OWN, CONNECTIONS, seconds, tls=True, close=True)

        load(1)
        done, cpu, busy = measured(running, lambda: load(place.seconds))
        return {
            "handshakes per CPU second": done.requests / cpu,
            "handshakes/s": done.requests / done.seconds,
            "core busy %": busy * 100,
            "p50 ms": done.p50 / 1e3,
            "p99 ms": done.p99 / 1e3,
            "RSS MiB": running.resident() / 2**20,
        }


def begins_anew(work: Work) -> None:
    """Makes sure that no connection goes on where another ended: that would be a cheaper handshake."""
    session = None
    for _ in range(2):
        connection = one_idle(work, OWN, "own", session)
        reused, session = connection.session_reused, connection.session
        connection.close()
        if reused:
            raise RigError("it resumes sessions")


def http2(peer: Peer, place: Place, tls: bool = False) -> Figures:
    work = place.work(tls=tls)
    with peer.start(work) as running:
        port = work.port if tls else work.port + peer.h2_offset

        def load(seconds: float) -> tools.Load:
            return tools.h2load(
                port, work.asked(), "/small", seconds, place.outside, clients=8, streams=8, tls=tls
            )

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


def bodies(peer: Peer, place: Place, raw: bool = False) -> Figures:
    work = place.work(raw=raw)
    with peer.start(work) as running:
        tools.wrk(work.port, HOST, "/large", 4, 1)
        load, cpu, busy = measured(
            running, lambda: tools.wrk(work.port, HOST, "/large", 4, place.seconds)
        )
        return {
            "GB per CPU second": load.received / cpu / 1e9,
            "GB/s": load.received / load.seconds / 1e9,
            "core busy %": busy * 100,
            "RSS MiB": running.resident() / 2**20,
        }


def latency(peer: Peer | None, place: Place) -> Figures:
    """1,000 requests per second over 10 connections; without a proxy for the base line."""
    # Not h2load: its connections all ask in the same moment, and then there is a pause.
    pace = own.build("pace", place.outside)

    def load(port: int, seconds: float) -> tools.Load:
        words = [f"127.0.0.1:{port}", HOST, "/small", "10", str(RATE), str(seconds)]
        done = own.run(pace, words, seconds)
        return tools.Load(int(done["requests"]), 0, seconds, p50=done["p50"], p99=done["p99"])

    if peer is None:
        with awake(place.seconds + 5):
            load(place.origin, 1)
            done = load(place.origin, place.seconds)
        return {"p50 µs": done.p50, "p99 µs": done.p99}
    work = place.work()
    with peer.start(work) as running, awake(place.seconds + 5):
        load(work.port, 1)
        done, cpu, _ = measured(running, lambda: load(work.port, place.seconds))
        return {
            "p50 µs": done.p50,
            "p99 µs": done.p99,
            "CPU ms per 1,000 requests": cpu / done.requests * 1e6,
        }


def memory(
    peer: Peer, place: Place, tls: bool = False, raw: bool = False, count: int = IDLE
) -> Figures:
    """Resident at start, and what an idle connection adds after one request."""
    work = place.work(tls=tls, raw=raw)
    # The proxy has two descriptors for each stream, and some others.
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(count, (most - 1000) // 2)
    with peer.start(work) as running:
        settled(running)
        start = running.resident()
        # What the first request allocates once is not the connections' fault.
        first = [one_idle(work) for _ in range(8)]
        before = settled(running)
        idle = [one_idle(work) for _ in range(count)]
        after = settled(running)
        for connection in first + idle:
            connection.close()
        return {
            "RSS at start MiB": start / 2**20,
            "KiB per idle connection": (after - before) / count / 1024,
            "connections": count,
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


def one_idle(
    work: Work, path: str = "/small", body: str = origin.BODY, session: ssl.SSLSession | None = None
) -> socket.socket:
    """A kept connection that has had one answer."""
    connection = socket.create_connection(("127.0.0.1", work.port), timeout=PATIENCE)
    if work.pair is not None:
        connection = secured(work, connection, session)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {work.asked()}\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < len(body):
        more = connection.recv(4096)
        if not more:
            raise RigError(f"an idle connection ended: {got[:200]!r}")
        got += more
    if not got.startswith(b"HTTP/1.1 200"):
        raise RigError(f"an idle connection got {got[:200]!r}")
    return connection


def secured(
    work: Work, connection: socket.socket, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    client = terms(work.pair)
    tls = client.wrap_socket(connection, server_hostname=work.asked(), session=session)
    spoken = tls.version(), tls.cipher()[0]
    if spoken != ("TLSv1.3", tools.CIPHER):
        raise RigError(f"it speaks {spoken}")
    return tls


@cache
def terms(pair: Pair) -> ssl.SSLContext:
    """One for all connections: sessions belong to it."""
    return ssl.create_default_context(cafile=pair.chain)


def reload(peer: Peer, place: Place) -> Figures:
    """A file of 10,000 routes taken over, again and again, under 1,000 requests per second."""
    if peer.reloads is None:
        raise RigError("does not take over a changed file by itself")
    work = place.work()
    port = work.port
    with peer.start(work) as running:
        if peer.worker:
            running.unpin_all_but(peer.worker)
        windows: list[tuple[float, float]] = []
        failed: list[RigError] = []
        # Written before the load begins, which shares a core with us.
        files = [large_file(peer, work, turn) for turn in range(RELOADS)]

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
            port, HOST, "/small", seconds, place.outside, clients=10, rate=RATE, http1=True
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


def large_file(peer: Peer, work: Work, turn: int) -> tuple[Path, str]:
    """A file beside the one that runs, and a host that no file before it had."""
    count = ROUTES + turn
    large = replace(work, count=count)
    path = work.folder / f"{turn}.new"
    path.write_text(nginx.conf(large) if peer.name == "nginx" else sluice.toml(large))
    return path, host(count - 1)


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
    Scenario("handshakes", f"Full handshakes of TLS 1.3, {CONNECTIONS} at a time", handshakes),
    Scenario("tls", f"HTTP/1.1 over TLS, {CONNECTIONS} kept connections", partial(requests, tls=True)),
    Scenario("tls-http2", "HTTP/2 over TLS, 8 connections with 8 streams", partial(http2, tls=True)),
    Scenario("tls-memory", f"Memory, {IDLE:,} idle connections over TLS", partial(memory, tls=True)),
    Scenario("bodies", "Bodies of 10 MiB, 4 connections", bodies),
    Scenario("udp", f"Datagrams of {datagrams.BYTES} bytes, {datagrams.CLIENTS} clients", datagrams.measure),
    Scenario("latency", "1,000 requests per second, 10 connections", latency, direct=True),
    Scenario("memory", f"Memory, {IDLE:,} idle connections", memory),
    Scenario("tcp", f"Raw TCP, {CONNECTIONS} streams with short requests", partial(requests, raw=True)),
    Scenario("tcp-bodies", "Raw TCP, 4 streams with 10 MiB at a time", partial(bodies, raw=True)),
    Scenario(
        "tcp-memory",
        f"Raw TCP, memory of {STREAMS:,} idle streams",
        partial(memory, raw=True, count=STREAMS),
    ),
    Scenario("tunnels", f"CONNECT, {tunnels.TUNNELS} at a time with a small answer each", tunnels.small),
    Scenario("tunnel-bodies", f"CONNECT, {tunnels.LARGE} at a time with 10 MiB each", tunnels.large),
    Scenario("reload", f"A file of {ROUTES:,} routes taken over", reload),
]
