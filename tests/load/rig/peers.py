"""The proxies: which program each is, and how it is started."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from .configs import caddy, envoy, haproxy, nginx, sluice
from .machine import PROXY_CPU, RigError, Running
from .work import Work

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Peer:
    """A proxy."""

    name: str
    program: str | None
    # Writes its configuration and gives its command line.
    configure: Callable[[str, Work], list[str]]
    version_args: list[str]
    environment: dict[str, str] | None = None
    # The file that a reload takes over, and whether it takes it over by itself.
    reloads: str | None = None
    signal: int | None = None
    # How the name of the worker's thread, or the command line of its process, begins: what stays
    # on the proxy's core when the rest is moved away from it.
    worker: str = ""
    # HTTP/2 with prior knowledge has a port of its own, so many above the other.
    h2_offset: int = 0
    # The scenarios it is for, where it is not for all.
    only: tuple[str, ...] = ()

    def version(self) -> str:
        if self.program is None:
            return "missing"
        done = subprocess.run(
            [self.program, *self.version_args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=20,
            check=False,
        )
        match = re.search(r"\d+\.\d+\.\d+", done.stdout)
        return match.group(0) if match else done.stdout.strip()[:40]

    def start(self, work: Work) -> Running:
        work.folder.mkdir(parents=True)
        command = self.configure(str(self.program), work)
        if self.environment:
            command = ["env", *(f"{k}={v}" for k, v in self.environment.items()), *command]
        running = Running.start(self.name, command, PROXY_CPU, work.folder)
        try:
            running.listens(work.port)
        except BaseException:
            running.close()
            raise
        return running


def find(name: str, *places: Path) -> str | None:
    for place in places:
        if os.access(place, os.X_OK):
            return str(place)
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


# Only what serves: these addresses would be the same for every instance.
QUIET = {"SLUICE_ADMIN": "off", "SLUICE_METRICS": "off", "SLUICE_READINESS": "off"}


def all_peers(built: Path) -> list[Peer]:
    tools = ROOT / "target/tools/envoy"
    # The wheel's own launcher is a script; the program lies beside it.
    programs = sorted(tools.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    own = find("", built)
    return [
        Peer(
            "sluice",
            own,
            sluice.configure,
            ["version"],
            environment=QUIET,
            reloads="sluice.toml",
            worker="worker",
        ),
        Peer(
            "nginx",
            find("nginx"),
            nginx.configure,
            ["-v"],
            reloads="nginx.conf",
            signal=signal.SIGHUP,
            worker="nginx: worker",
            h2_offset=1,
        ),
        Peer("haproxy", find("haproxy"), haproxy.configure, ["-v"], h2_offset=1),
        Peer("caddy", find("caddy"), caddy.configure, ["version"], environment={"GOMAXPROCS": "1"}),
        Peer("envoy", find("envoy", *programs), envoy.configure, ["--version"]),
        Peer("squid", find("squid"), _nothing, ["-v"], only=("tunnels", "tunnel-bodies")),
    ]


def bare_sluice(built: Path) -> Peer:
    """Without the access log: what the log costs is the difference."""
    own = find("", built)
    return Peer("sluice-bare", own, sluice.configure_bare, ["version"], environment=QUIET)


def _nothing(_program: str, _work: Work) -> list[str]:
    raise RigError("does nothing but what it is for")
