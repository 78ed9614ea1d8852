"""HAProxy. That it gives out no tickets stands in `openssl.cnf`."""

from __future__ import annotations

from ..work import KEPT, OWN, Work


def configure(program: str, work: Work) -> list[str]:
    folder, port = work.folder, work.port
    if work.raw:
        path = folder / "haproxy.cfg"
        path.write_text(raw(work))
        return [program, "-db", "-f", str(path)]
    table = "\n".join(f"{host} origin" for host in work.hosts())
    (folder / "hosts.map").write_text(table + "\n")
    binds = [f"bind 127.0.0.1:{port}", f"bind 127.0.0.1:{port + 1} proto h2"]
    if work.pair is not None:
        terms = "alpn h2,http/1.1 ssl-min-ver TLSv1.3 curves X25519 ciphersuites TLS_AES_128_GCM_SHA256 no-tls-tickets"
        binds = [
            f"bind 127.0.0.1:{port} ssl crt {work.pair.both} {terms}",
            f"http-request return status 200 content-type text/plain string own if {{ path {OWN} }}",
        ]
    lines = "\n  ".join(binds)
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
  {lines}
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  option forwardfor
  http-request set-header X-Forwarded-Proto {work.scheme}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Real-IP %[src]
  use_backend %[req.hdr(host),lower,map({folder}/hosts.map,none)]
backend none
  http-request deny deny_status 404
backend origin
  server origin 127.0.0.1:{work.origin} pool-max-conn {KEPT}
""")
    return [program, "-db", "-f", str(path)]


def raw(work: Work) -> str:
    return f"""
global
  nbthread 1
  maxconn 9000
  log stdout format raw local0
defaults
  mode tcp
  log global
  option tcplog
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend web
  bind 127.0.0.1:{work.port}
  default_backend origin
backend origin
  server origin 127.0.0.1:{work.origin}
"""
