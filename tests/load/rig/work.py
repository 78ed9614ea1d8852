"""What every proxy is set up for: the same hosts before the same origin, with or without TLS."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .machine import RigError

HOSTS = 100
# Kept connections to the origin: more than any load here has in flight.
KEPT = 256
# Which host the load asks for.
ASKED = 73
# What each proxy answers by itself over TLS, so that a connection carries little but its handshake.
OWN = "/own"


def host(number: int) -> str:
    return f"host{number}.example.com"


@dataclass(frozen=True)
class Pair:
    """One ECDSA key on P-256 and its certificate, for everybody."""

    chain: Path
    key: Path
    # Both in one file, as HAProxy wants them.
    both: Path

    @classmethod
    def make(cls, folder: Path) -> "Pair":
        folder.mkdir(parents=True)
        chain, key, both = (folder / name for name in ("chain.pem", "key.pem", "both.pem"))
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext"]
        command += ["subjectAltName=DNS:localhost,DNS:*.example.com", "-keyout", str(key), "-out", str(chain)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode != 0:
            raise RigError(f"openssl made no certificate:\n{done.stderr[-1000:]}")
        both.write_text(chain.read_text() + key.read_text())
        # Who drops root must be able to read them, too.
        for path in (chain, key, both):
            path.chmod(0o644)
        return cls(chain, key, both)


@dataclass(frozen=True)
class Work:
    """What a proxy does."""

    folder: Path
    port: int
    origin: int
    count: int = HOSTS
    # With it the port speaks TLS, and HTTP/2 and HTTP/1.1 inside.
    pair: Pair | None = None
    # The port takes bytes, whatever they are, and the table of hosts is not looked at.
    raw: bool = False

    @property
    def scheme(self) -> str:
        return "http" if self.pair is None else "https"

    def hosts(self) -> list[str]:
        """The one that is asked for over TLS is named in the load's address, so it must be a name of
        this machine."""
        all_of_them = [host(number) for number in range(self.count)]
        if self.pair is not None:
            all_of_them[ASKED] = "localhost"
        return all_of_them

    def asked(self) -> str:
        return self.hosts()[ASKED]
