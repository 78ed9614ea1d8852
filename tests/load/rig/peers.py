"""The proxies, set up to do the same work.

Each has one worker, a table of hosts that all lead to one origin over kept connections, adds the
forwarded headers and a request id, and writes one line per request, in batches where it can, to a
file. Bodies stream: nothing is spilled to a disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from .machine import PROXY_CPU, Running

HOSTS = 100
# Kept connections to the origin: more than any load here has in flight.
KEPT = 256

ROOT = Path(__file__).resolve().parents[3]


def host(number: int) -> str:
    return f"host{number}.example.com"


@dataclass
class Peer:
    """A proxy: its configuration for a port and an origin, and its command line."""

    name: str
    program: str | None
    configure: Callable[["Peer", Path, int, int, int], list[str]]
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

    def start(self, folder: Path, port: int, origin: int, hosts: int = HOSTS) -> Running:
        folder.mkdir(parents=True)
        command = self.configure(self, folder, port, origin, hosts)
        if self.environment:
            command = ["env", *(f"{k}={v}" for k, v in self.environment.items()), *command]
        running = Running.start(self.name, command, PROXY_CPU, folder)
        try:
            running.listens(port)
        except BaseException:
            running.close()
            raise
        return running


def find(name: str, *places: Path) -> str | None:
    for place in places:
        if os.access(place, os.X_OK):
            return str(place)
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def sluice_toml(folder: Path, port: int, origin: int, hosts: int, log: bool) -> str:
    output = f'{{ file = "{folder}/log/access.log" }}' if log else '"off"'
    lines = [
        "[process]",
        "workers = 1",
        f'state_directory = "{folder}/state"',
        "[access_log]",
        f"output = {output}",
        "[listeners.web]",
        f'address = "127.0.0.1:{port}"',
        "[upstreams.origin]",
        f'endpoints = ["127.0.0.1:{origin}"]',
        f"pool = {{ idle_connections = {KEPT} }}",
    ]
    for number in range(hosts):
        lines += [f"[routes.r{number}]", f'hosts = ["{host(number)}"]', 'to = "origin"']
    return "\n".join(lines) + "\n"


def _sluice(log: bool) -> Callable[[Peer, Path, int, int, int], list[str]]:
    def configure(peer: Peer, folder: Path, port: int, origin: int, hosts: int) -> list[str]:
        for name in ("state", "log"):
            (folder / name).mkdir()
        path = folder / "sluice.toml"
        path.write_text(sluice_toml(folder, port, origin, hosts, log))
        return [str(peer.program), "run", "--config", str(path)]

    return configure


def nginx_conf(folder: Path, port: int, origin: int, hosts: int) -> str:
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{port}; listen 127.0.0.1:{port + 1} http2; "
        f"server_name {host(number)}; location / {{ proxy_pass http://origin; }} }}"
        for number in range(hosts)
    )
    return f"""
daemon off; worker_processes 1; worker_cpu_affinity 01; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  log_format line escape=json '{{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method",'
    '"host":"$host","path":"$uri","status":$status,"sent":$body_bytes_sent,"duration":$request_time,'
    '"route":"$server_name","endpoint":"$upstream_addr","request_id":"$request_id"}}';
  access_log {folder}/access.log line buffer=64k flush=1s;
  server_names_hash_max_size 65536; server_names_hash_bucket_size 64;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000; keepalive_timeout 75s;
  http2_max_concurrent_streams 256;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive {KEPT}; keepalive_requests 100000000; }}
  proxy_http_version 1.1; proxy_max_temp_file_size 0;
  proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Port $server_port;
  proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Request-Id $request_id;
  server {{ listen 127.0.0.1:{port} default_server; listen 127.0.0.1:{port + 1} http2 default_server; return 404; }}
{servers}
}}
"""


def _nginx(peer: Peer, folder: Path, port: int, origin: int, hosts: int) -> list[str]:
    path = folder / "nginx.conf"
    path.write_text(nginx_conf(folder, port, origin, hosts))
    return [str(peer.program), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(path)]


def _haproxy(peer: Peer, folder: Path, port: int, origin: int, hosts: int) -> list[str]:
    table = "\n".join(f"{host(number)} origin" for number in range(hosts))
    (folder / "hosts.map").write_text(table + "\n")
    path = folder / "haproxy.cfg"
    path.write_text(f"""
global
  nbthread 1
  maxconn 8000
  log stdout format raw local0
  tune.idle-pool.shared on
defaults
  mode http
  log global
  option httplog
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 75s
  timeout server 60s
  timeout http-request 10s
frontend web
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{port + 1} proto h2
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Real-IP %[src]
  use_backend %[req.hdr(host),lower,map({folder}/hosts.map,none)]
backend none
  http-request deny deny_status 404
backend origin
  server origin 127.0.0.1:{origin} pool-max-conn {KEPT}
""")
    return [str(peer.program), "-db", "-f", str(path)]


def _caddy(peer: Peer, folder: Path, port: int, origin: int, hosts: int) -> list[str]:
    names = ", ".join(f"http://{host(number)}:{port}" for number in range(hosts))
    path = folder / "Caddyfile"
    path.write_text(f"""{{
  admin off
  auto_https off
  storage file_system {folder}/storage
  servers {{
    protocols h1 h2c
  }}
}}
{names} {{
  bind 127.0.0.1
  log {{
    output file {folder}/access.log {{
      roll_disabled
    }}
  }}
  reverse_proxy 127.0.0.1:{origin} {{
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
    return [str(peer.program), "run", "--adapter", "caddyfile", "--config", str(path)]


def _envoy(peer: Peer, folder: Path, port: int, origin: int, hosts: int) -> list[str]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        },
    }
    line = {
        name: f"%{word}%"
        for name, word in {
            "time": "START_TIME",
            "client": "DOWNSTREAM_REMOTE_ADDRESS",
            "method": "REQ(:METHOD)",
            "host": "REQ(:AUTHORITY)",
            "path": "REQ(:PATH)",
            "status": "RESPONSE_CODE",
            "sent": "BYTES_SENT",
            "duration": "DURATION",
            "route": "ROUTE_NAME",
            "endpoint": "UPSTREAM_HOST",
            "request_id": "REQ(X-REQUEST-ID)",
        }.items()
    }
    log = {
        "name": "file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(folder / "access.log"),
            "log_format": {"json_format": line},
        },
    }
    # The forwarded headers that it does not set by itself.
    added = {
        "x-forwarded-host": "%REQ(:AUTHORITY)%",
        "x-forwarded-port": "%DOWNSTREAM_LOCAL_PORT%",
        "x-real-ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    }
    headers = [
        {
            "header": {"key": key, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        for key, value in added.items()
    ]
    virtual_hosts = [
        {
            "name": f"r{number}",
            "domains": [host(number)],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
        }
        for number in range(hosts)
    ]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "use_remote_address": True,
        "access_log": [log],
        "http_filters": [router],
        "route_config": {"virtual_hosts": virtual_hosts, "request_headers_to_add": headers},
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    config = {
        "static_resources": {
            "listeners": [
                {
                    "name": "web",
                    "address": _envoy_address(port),
                    "filter_chains": [chain],
                }
            ],
            "clusters": [
                {
                    "name": "origin",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "origin",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {"endpoint": {"address": _envoy_address(origin)}}
                                ]
                            }
                        ],
                    },
                }
            ],
        }
    }
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    command = [str(peer.program), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    return [*command, "-c", str(path)]


def _envoy_address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


# Only what serves: these addresses would be the same for every instance.
QUIET = {"SLUICE_ADMIN": "off", "SLUICE_METRICS": "off", "SLUICE_READINESS": "off"}


def all_peers(sluice: Path) -> list[Peer]:
    envoy = ROOT / "target/tools/envoy"
    # The wheel's own launcher is a script; the program lies beside it.
    programs = sorted(envoy.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    own = find("", sluice)
    return [
        Peer(
            "sluice",
            own,
            _sluice(True),
            ["version"],
            environment=QUIET,
            reloads="sluice.toml",
            worker="worker",
        ),
        Peer(
            "nginx",
            find("nginx"),
            _nginx,
            ["-v"],
            reloads="nginx.conf",
            signal=signal.SIGHUP,
            worker="nginx: worker",
            h2_offset=1,
        ),
        Peer("haproxy", find("haproxy"), _haproxy, ["-v"], h2_offset=1),
        Peer("caddy", find("caddy"), _caddy, ["version"], environment={"GOMAXPROCS": "1"}),
        Peer("envoy", find("envoy", *programs), _envoy, ["--version"]),
    ]


def bare_sluice(sluice: Path) -> Peer:
    """Without the access log: what the log costs is the difference."""
    own = find("", sluice)
    return Peer("sluice-bare", own, _sluice(False), ["version"], environment=QUIET)
