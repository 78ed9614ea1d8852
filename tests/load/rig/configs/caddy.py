"""Caddy. The words for its files have none for tickets, so it is given what they mean."""

from __future__ import annotations

import json
import subprocess

from ..machine import RigError
from ..work import KEPT, OWN, Work


def configure(program: str, work: Work) -> list[str]:
    if work.raw:
        raise RigError("passes no raw streams on")
    folder = work.folder
    names = ", ".join(f"{work.scheme}://{host}:{work.port}" for host in work.hosts())
    protocols, secured = "h1 h2c", ""
    if work.pair is not None:
        protocols = "h1 h2"
        secured = f"""
  tls {work.pair.chain} {work.pair.key} {{
    protocols tls1.3
    curves x25519
  }}
  respond {OWN} own"""
    path = folder / "Caddyfile"
    path.write_text(f"""{{
  admin off
  auto_https off
  storage file_system {folder}/storage
  servers {{
    protocols {protocols}
  }}
}}
{names} {{
  bind 127.0.0.1{secured}
  log {{
    output file {folder}/access.log {{
      roll_disabled
    }}
  }}
  reverse_proxy 127.0.0.1:{work.origin} {{
    header_up X-Real-IP {{remote_host}}
    header_up X-Forwarded-Port {{http.request.port}}
    header_up X-Request-Id {{http.request.uuid}}
    transport http {{
      keepalive_idle_conns {KEPT}
      keepalive_idle_conns_per_host {KEPT}
      compression off
    }}
  }}
}}
""")
    if work.pair is None:
        return [program, "run", "--adapter", "caddyfile", "--config", str(path)]
    adapt = [program, "adapt", "--adapter", "caddyfile", "--config", str(path)]
    done = subprocess.run(adapt, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise RigError(f"caddy adapt failed:\n{done.stderr[-1000:]}")
    meant = json.loads(done.stdout)
    meant["apps"]["tls"]["session_tickets"] = {"disabled": True}
    path = folder / "caddy.json"
    path.write_text(json.dumps(meant))
    return [program, "run", "--config", str(path)]
