"""nginx."""

from __future__ import annotations

import os

from ..machine import RigError
from ..work import KEPT, OWN, Work


def configure(program: str, work: Work) -> list[str]:
    path = work.folder / "nginx.conf"
    path.write_text(conf(work))
    return [program, "-p", str(work.folder), "-e", str(work.folder / "error.log"), "-c", str(path)]


# Debian builds it apart.
STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"


def conf(work: Work) -> str:
    if work.raw:
        return raw(work)
    folder, port, own, secured = work.folder, work.port, "", ""
    ports = [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1} http2"]
    if work.pair is not None:
        ports = [f"127.0.0.1:{port} ssl http2"]
        own = f'location = {OWN} {{ return 200 "own"; }} '
        secured = f"""
  ssl_certificate {work.pair.chain}; ssl_certificate_key {work.pair.key};
  ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_session_cache off; ssl_session_tickets off;
  ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ssl_conf_command NumTickets 0;"""
    listens = "".join(f"listen {one}; " for one in ports)
    unknown = "".join(f"listen {one} default_server; " for one in ports)
    servers = "\n".join(
        f"server {{ {listens}server_name {host}; {own}location / {{ proxy_pass http://origin; }} }}"
        for host in work.hosts()
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
  http2_max_concurrent_streams 256;{secured}
  upstream origin {{ server 127.0.0.1:{work.origin}; keepalive {KEPT}; keepalive_requests 100000000; }}
  proxy_http_version 1.1; proxy_max_temp_file_size 0;
  proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Port $server_port;
  proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Request-Id $request_id;
  server {{ {unknown}return 404; }}
{servers}
}}
"""


def raw(work: Work) -> str:
    if not os.path.exists(STREAM):
        raise RigError("its stream module is missing; tests/load/setup installs it")
    folder = work.folder
    return f"""
load_module {STREAM};
daemon off; worker_processes 1; worker_cpu_affinity 01; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
stream {{
  log_format line escape=json '{{"time":"$time_iso8601","client":"$remote_addr","status":$status,'
    '"sent":$bytes_sent,"received":$bytes_received,"duration":$session_time,"endpoint":"$upstream_addr"}}';
  access_log {folder}/access.log line buffer=64k flush=1s;
  server {{ listen 127.0.0.1:{work.port} backlog=4096; proxy_pass 127.0.0.1:{work.origin}; proxy_timeout 1h; }}
}}
"""
