"""wrk and h2load, and what they print."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .machine import LOAD_CPU, LOAD_NICE, RigError, settle

CIPHER = "TLS_AES_128_GCM_SHA256"


@dataclass
class Load:
    """What a load generator saw."""

    requests: int
    bad: int
    seconds: float
    received: int = 0
    # Microseconds.
    p50: float = 0.0
    p99: float = 0.0
    # (microseconds since the epoch, microseconds it took), where every request was written down.
    samples: list[tuple[int, int]] = field(default_factory=list)


def run(command: list[str], seconds: float) -> str:
    """Runs a load generator on its core, for a bounded time."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + 20,
            text=True,
            check=False,
            start_new_session=True,
            preexec_fn=lambda: settle({LOAD_CPU}, LOAD_NICE),
        )
    except subprocess.TimeoutExpired as late:
        raise RigError(f"{command[0]} did not end") from late
    if done.returncode != 0:
        raise RigError(f"{command[0]} failed:\n{done.stdout[-1000:]}")
    return done.stdout


def wrk(
    port: int, host: str, path: str, connections: int, seconds: float, *, tls: bool = False, close: bool = False
) -> Load:
    """With `close`, every request has a connection of its own."""
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    if close:
        command += ["-H", "Connection: close"]
    # It names in TLS what it connects to, so over TLS that is the host itself.
    address = f"https://{host}" if tls else "http://127.0.0.1"
    command += ["-H", f"Host: {host}", f"{address}:{port}{path}"]
    text = run(command, seconds)
    requests, took, received = _totals(text)
    bad = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    for line in re.findall(r"Socket errors: (.*)", text):
        bad += sum(int(n) for n in re.findall(r"\d+", line))
    # Only inside the distribution: wrk prints percentages of other things, too.
    tail = text.split("Latency Distribution", 1)[-1]
    p50, p99 = (_micros(*found(rf"^\s*{p}%\s+([\d.]+)(us|ms|s|m)\s*$", tail)) for p in (50, 99))
    return Load(requests, bad, took, received, p50, p99)


def _totals(text: str) -> tuple[int, float, int]:
    requests, took, unit, size, of = found(
        r"(\d+) requests in ([\d.]+)(ms|s|m), ([\d.]+)([KMGT]?B) read", text
    )
    power = "BKMGT".index(of[0])
    return int(requests), _micros(took, unit) / 1e6, int(float(size) * 1024**power)


def _micros(value: str, unit: str) -> float:
    return float(value) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}[unit]


def found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise RigError(f"{pattern!r} is not in:\n{text[-1000:]}")
    return match.groups()


def h2load(
    port: int,
    host: str,
    path: str,
    seconds: float,
    folder: Path,
    *,
    clients: int,
    streams: int = 1,
    rate: int = 0,
    http1: bool = False,
    tls: bool = False,
) -> Load:
    """At full speed, or `rate` requests per second over all clients."""
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", f"-c{clients}", f"-m{streams}", f"-D{max(1, round(seconds))}", f"--log-file={log}"]
    if rate:
        command.append(f"--rps={rate / clients}")
    if http1:
        command.append("--h1")
    scheme = "https" if tls else "http"
    command += [f"--connect-to=127.0.0.1:{port}", f"{scheme}://{host}{path}"]
    text = run(command, seconds)
    if tls:
        spoken = found(r"^TLS Protocol: (\S+)$", text) + found(r"^Cipher: (\S+)$", text)
        if spoken != ("TLSv1.3", CIPHER):
            raise RigError(f"it speaks {spoken}")
    samples, bad = [], 0
    for line in log.read_text().splitlines():
        start, status, took = line.split("\t")[:3]
        if status == "200":
            samples.append((int(start), int(took)))
        else:
            bad += 1
    (failed,) = found(r"(\d+) failed", text)
    if not samples:
        raise RigError("not one answer" if http1 else "does not answer HTTP/2")
    p50, p99 = (percentile([took for _, took in samples], p) for p in (0.50, 0.99))
    return Load(len(samples), max(bad, int(failed)), seconds, 0, p50, p99, samples)


def percentile(values: list[float] | list[int], fraction: float) -> float:
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(fraction * len(ordered)))])


def median(values: list[float]) -> float:
    return percentile(values, 0.5)
