"""Tunnels through forward proxies, asked for by CONNECT. The load is a program of ours."""

from __future__ import annotations

from pathlib import Path

from . import own
from .configs import envoy
from .machine import PROXY_CPU, RigError, Running, free_port
from .peers import QUIET, Peer

# Small ones at a time.
TUNNELS = 32
# Large ones.
LARGE = 4

PROXIES = ("sluice", "envoy", "squid")


def small(peer: Peer, place) -> dict[str, float]:
    """Opened, used for one small answer, and closed."""
    done, cpu, resident = measured(peer, place, "/small", TUNNELS)
    return {
        "tunnels per CPU second": done["tunnels"] / cpu,
        "tunnels/s": done["tunnels"] / done["seconds"],
        "core busy %": cpu / done["seconds"] * 100,
        "p50 ms": done["p50"] / 1e3,
        "p99 ms": done["p99"] / 1e3,
        "RSS MiB": resident / 2**20,
    }


def large(peer: Peer, place) -> dict[str, float]:
    """10 MiB in each."""
    done, cpu, resident = measured(peer, place, "/large", LARGE)
    return {
        "GB per CPU second": done["bytes"] / cpu / 1e9,
        "GB/s": done["bytes"] / done["seconds"] / 1e9,
        "core busy %": cpu / done["seconds"] * 100,
        "RSS MiB": resident / 2**20,
    }


def measured(peer: Peer, place, path: str, tunnels: int) -> tuple[dict[str, float], float, int]:
    if peer.name not in PROXIES:
        raise RigError("is no forward proxy here")
    folder, port = place.fresh(), free_port()
    program = own.build("tunnels", place.outside)
    words = [f"127.0.0.1:{port}", f"127.0.0.1:{place.origin}", path, str(tunnels)]
    with start(peer, folder, port, place.origin) as running:
        own.run(program, [*words, "1"], 1)
        before = running.cpu_seconds()
        done = own.run(program, [*words, str(place.seconds)], place.seconds)
        return done, running.cpu_seconds() - before, running.resident()


def start(peer: Peer, folder: Path, port: int, origin: int) -> Running:
    folder.mkdir(parents=True)
    command = {"sluice": sluice, "envoy": envoys, "squid": squid}[peer.name](peer, folder, port, origin)
    running = Running.start(peer.name, command, PROXY_CPU, folder)
    try:
        running.listens(port)
    except BaseException:
        running.close()
        raise
    return running


def sluice(peer: Peer, folder: Path, port: int, origin: int) -> list[str]:
    """A rule that is asked for each tunnel; what is inside is no TLS."""
    path = folder / "sluice.toml"
    (folder / "state").mkdir()
    path.write_text(f"""
[process]
workers = 1
state_directory = "{folder}/state"
[access_log]
output = {{ file = "{folder}/access.log" }}
[listeners.proxy]
address = "127.0.0.1:{port}"
protocol = "forward-proxy"
limits = {{ connections_per_client = "off" }}
[egress]
default = "deny"
[egress.allow.origin]
hosts = ["127.0.0.1"]
ports = [{origin}]
protocols = ["tcp"]
addresses = ["127.0.0.0/8"]
""")
    return ["env", *(f"{k}={v}" for k, v in QUIET.items()), str(peer.program), "run", "--config", str(path)]


def envoys(peer: Peer, folder: Path, port: int, origin: int) -> list[str]:
    """The dynamic forward proxy."""
    cache = {"name": "cache", "dns_lookup_family": "V4_ONLY"}
    extensions = "type.googleapis.com/envoy.extensions"
    filters = [
        {
            "name": "envoy.filters.http.dynamic_forward_proxy",
            "typed_config": {
                "@type": f"{extensions}.filters.http.dynamic_forward_proxy.v3.FilterConfig",
                "dns_cache_config": cache,
            },
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{extensions}.filters.http.router.v3.Router"},
        },
    ]
    line = {
        "time": "%START_TIME%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "method": "%REQ(:METHOD)%",
        "host": "%REQ(:AUTHORITY)%",
        "status": "%RESPONSE_CODE%",
        "sent": "%BYTES_SENT%",
        "received": "%BYTES_RECEIVED%",
        "duration": "%DURATION%",
        "endpoint": "%UPSTREAM_HOST%",
    }
    route = {
        "cluster": "outside",
        "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
    }
    manager = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "proxy",
        "access_log": [envoy.log(folder, line)],
        "http_filters": filters,
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "outside",
                    "domains": ["*"],
                    "routes": [{"match": {"connect_matcher": {}}, "route": route}],
                }
            ]
        },
    }
    cluster = {
        "name": "outside",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.dynamic_forward_proxy",
            "typed_config": {
                "@type": f"{extensions}.clusters.dynamic_forward_proxy.v3.ClusterConfig",
                "dns_cache_config": cache,
            },
        },
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return envoy.run(str(peer.program), folder, port, chain, cluster)


def squid(peer: Peer, folder: Path, port: int, origin: int) -> list[str]:
    """One process; nothing is kept."""
    folder.chmod(0o777)
    path = folder / "squid.conf"
    path.write_text(f"""
http_port 127.0.0.1:{port}
pid_filename {folder}/squid.pid
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
cache deny all
cache_mem 8 MB
coredump_dir {folder}
pinger_enable off
shutdown_lifetime 1 seconds
acl outside port {origin}
http_access allow outside
http_access deny all
""")
    return [str(peer.program), "-N", "-f", str(path)]
