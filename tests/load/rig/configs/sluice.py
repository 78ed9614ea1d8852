"""Sluice."""

from __future__ import annotations

from ..work import KEPT, OWN, Work


def configure(program: str, work: Work) -> list[str]:
    return _start(program, work, True)


def configure_bare(program: str, work: Work) -> list[str]:
    """Without the access log."""
    return _start(program, work, False)


def _start(program: str, work: Work, log: bool) -> list[str]:
    for name in ("state", "log"):
        (work.folder / name).mkdir()
    path = work.folder / "sluice.toml"
    path.write_text(toml(work, log))
    return [program, "run", "--config", str(path)]


def toml(work: Work, log: bool = True) -> str:
    output = f'{{ file = "{work.folder}/log/access.log" }}' if log else '"off"'
    lines = [
        "[process]",
        "workers = 1",
        f'state_directory = "{work.folder}/state"',
        "[access_log]",
        f"output = {output}",
        "[listeners.web]",
        f'address = "127.0.0.1:{work.port}"',
    ]
    if work.raw:
        lines += [
            'protocol = "tcp"',
            "limits = { connections_per_client = \"off\" }",
            "[upstreams.origin]",
            f'endpoints = ["127.0.0.1:{work.origin}"]',
            'limits = { connections = "off" }',
            "[routes.r]",
            'listeners = ["web"]',
            'to = "origin"',
        ]
        return "\n".join(lines) + "\n"
    if work.pair is not None:
        lines += [
            'protocol = "https"',
            "tls = { session_tickets = false }",
            "[certificates.one]",
            f'files = {{ chain = "{work.pair.chain}", key = "{work.pair.key}" }}',
        ]
    lines += [
        "[upstreams.origin]",
        f'endpoints = ["127.0.0.1:{work.origin}"]',
        f"pool = {{ idle_connections = {KEPT} }}",
    ]
    for number, host in enumerate(work.hosts()):
        lines += [f"[routes.r{number}]", f'hosts = ["{host}"]', 'to = "origin"']
        if work.pair is not None:
            lines += [f"[[routes.r{number}.rules]]", f'match = {{ path = "{OWN}" }}', 'respond = { body = "own" }']
    return "\n".join(lines) + "\n"
