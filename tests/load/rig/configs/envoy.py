"""Envoy."""

from __future__ import annotations

import json
from pathlib import Path

from ..work import OWN, Pair, Work


def configure(program: str, work: Work) -> list[str]:
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
    if work.raw:
        return _run(program, work, _raw(work))
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
    routes: list[dict] = [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]
    if work.pair is not None:
        own = {"status": 200, "body": {"inline_string": "own"}}
        routes.insert(0, {"match": {"path": OWN}, "direct_response": own})
    virtual_hosts = [
        {
            "name": f"r{number}",
            "domains": [host],
            "routes": routes,
        }
        for number, host in enumerate(work.hosts())
    ]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "use_remote_address": True,
        "access_log": [log(work.folder, line)],
        "http_filters": [router],
        "route_config": {"virtual_hosts": virtual_hosts, "request_headers_to_add": headers},
    }
    chain: dict = {"filters": [{"name": "http", "typed_config": manager}]}
    if work.pair is not None:
        chain["transport_socket"] = _secured(work.pair)
    return _run(program, work, chain)


def _raw(work: Work) -> dict:
    line = {
        "time": "%START_TIME%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "sent": "%BYTES_SENT%",
        "received": "%BYTES_RECEIVED%",
        "duration": "%DURATION%",
        "endpoint": "%UPSTREAM_HOST%",
    }
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "web",
        "cluster": "origin",
        "access_log": [log(work.folder, line)],
    }
    return {"filters": [{"name": "tcp", "typed_config": proxy}]}


def log(folder: Path, line: dict) -> dict:
    """Such a line for each request, to a file."""
    return {
        "name": "file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(folder / "access.log"),
            "log_format": {"json_format": line},
        },
    }


def _run(program: str, work: Work, chain: dict) -> list[str]:
    endpoint = {"endpoint": {"address": _address(work.origin)}}
    cluster = {
        "name": "origin",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return run(program, work.folder, work.port, chain, cluster)


def run(program: str, folder: Path, port: int, chain: dict, cluster: dict) -> list[str]:
    """One listener and one cluster."""
    # More than any load here has open: it would refuse beyond 1,024.
    limits = {"thresholds": [{"max_connections": 65536, "max_pending_requests": 65536}]}
    listener = {"name": "web", "address": _address(port), "filter_chains": [chain]}
    clusters = [{**cluster, "circuit_breakers": limits}]
    config = {"static_resources": {"listeners": [listener], "clusters": clusters}}
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    command = [program, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    return [*command, "-c", str(path)]


def _address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _secured(pair: Pair) -> dict:
    files = {"certificate_chain": pair.chain, "private_key": pair.key}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "disable_stateless_session_resumption": True,
            "disable_stateful_session_resumption": True,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                    "ecdh_curves": ["X25519"],
                },
                "tls_certificates": [
                    {name: {"filename": str(path)} for name, path in files.items()}
                ],
            },
        },
    }
