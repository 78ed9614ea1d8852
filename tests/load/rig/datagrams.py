"""Small datagrams there and back, from many client sockets. The load is a program of ours."""

from __future__ import annotations

from pathlib import Path

from . import own
from .machine import PROXY_CPU, RigError, Running, free_port
from .peers import QUIET, Peer

CLIENTS = 128
BYTES = 64


def load(program: Path, proxy: int, origin: int, seconds: float) -> dict[str, float]:
    words = [f"127.0.0.1:{proxy}", f"127.0.0.1:{origin}", str(CLIENTS), str(BYTES), str(seconds)]
    return own.run(program, words, seconds)


def start(peer: Peer, folder: Path, port: int, origin: int) -> Running:
    """The proxy with one listener for datagrams before one endpoint."""
    folder.mkdir(parents=True)
    if peer.name == "sluice":
        command = ["env", *(f"{k}={v}" for k, v in QUIET.items()), *sluice(peer, folder, port, origin)]
    elif peer.name == "nginx":
        command = nginx(peer, folder, port, origin)
    else:
        raise RigError("passes no datagrams on here")
    return Running.start(peer.name, command, PROXY_CPU, folder)


def sluice(peer: Peer, folder: Path, port: int, origin: int) -> list[str]:
    path = folder / "sluice.toml"
    path.write_text(f"""
[process]
workers = 1
state_directory = "{folder}/state"
[access_log]
output = {{ file = "{folder}/access.log" }}
[listeners.datagrams]
address = "127.0.0.1:{port}"
protocol = "udp"
[routes.all]
listeners = ["datagrams"]
to = "127.0.0.1:{origin}"
""")
    (folder / "state").mkdir()
    return [str(peer.program), "run", "--config", str(path)]


def nginx(peer: Peer, folder: Path, port: int, origin: int) -> list[str]:
    path, modules = folder / "nginx.conf", Path("/usr/lib/nginx/modules")
    module = modules / "ngx_stream_module.so"
    path.write_text(f"""
{f"load_module {module};" if module.exists() else ""}
daemon off; worker_processes 1; worker_cpu_affinity 01; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
stream {{
  log_format line '$time_iso8601 $remote_addr $status $bytes_sent $bytes_received $session_time $upstream_addr';
  access_log {folder}/access.log line buffer=64k flush=1s;
  server {{ listen 127.0.0.1:{port} udp; proxy_pass 127.0.0.1:{origin}; proxy_timeout 30s; }}
}}
""")
    return [str(peer.program), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(path)]


def warm(program: Path, running: Running, port: int, origin: int) -> None:
    """Until the proxy passes everything on, which tells that it listens."""
    for _ in range(20):
        done = load(program, port, origin, 0.3)
        if done["back"] == done["sent"] > CLIENTS:
            return
        if running.process.poll() is not None:
            break
    words = running.output.read_text(errors="replace")[-2000:]
    raise RigError(f"{running.name} loses datagrams; it said:\n{words}")


def measure(peer: Peer, place) -> dict[str, float]:
    folder, port, origin = place.fresh(), free_port(), free_port()
    with start(peer, folder, port, origin) as running:
        program = own.build("datagrams", folder)
        warm(program, running, port, origin)
        before = running.cpu_seconds()
        done = load(program, port, origin, place.seconds)
        cpu = running.cpu_seconds() - before
        if done["sent"] - done["back"] > done["sent"] / 1000:
            raise RigError(f"{done['sent'] - done['back']} of {done['sent']} datagrams were lost")
        return {
            # There and back.
            "datagrams per CPU second": 2 * done["back"] / cpu,
            "datagrams/s": 2 * done["back"] / done["seconds"],
            "core busy %": cpu / done["seconds"] * 100,
            "RSS MiB": running.resident() / 2**20,
        }
