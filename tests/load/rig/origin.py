"""The origin: nginx with a fixed answer and a large file, on the load generator's core."""

from __future__ import annotations

import os
from pathlib import Path

from .machine import LOAD_CPU, Running, free_port

LARGE = 10 * 1024 * 1024
BODY = "x" * 128


def start(program: str, folder: Path) -> tuple[Running, int]:
    folder.mkdir(parents=True)
    (folder / "www").mkdir()
    # nginx's worker drops root; the file must be readable for whoever it becomes.
    for path in (folder, folder / "www"):
        os.chmod(path, 0o755)
    (folder / "www/large").write_bytes(b"x" * LARGE)
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
{"user root;" if os.geteuid() == 0 else ""}
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; sendfile on; tcp_nopush on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  default_type text/plain;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /small {{ return 200 "{BODY}"; }}
    location = /large {{ root {folder}/www; }}
  }}
}}
""")
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(path)]
    running = Running.start("origin", command, LOAD_CPU, folder)
    try:
        running.listens(port)
    except BaseException:
        running.close()
        raise
    return running, port
