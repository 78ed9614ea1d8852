"""The figures as a page, with the goals they are held against."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from . import machine, tools
from .scenarios import ALL, Figures, Scenario

# scenario -> peer -> the figures of each round
Rounds = dict[str, dict[str, list[Figures]]]

METHOD = """
Each proxy has one worker and one core; the load generator (wrk, h2load, programs of ours for latency and datagrams) and the origin (nginx with a fixed answer of
128 bytes, and a file of 10 MiB) share the other. All do the same work: a table of 100 hosts, forwarded headers, a request id,
kept connections to the origin, one line per request to a file. The proxies take turns; every figure is the median over the
rounds, each with a fresh process, and every ratio the median of the ratios within a round. CPU is that of all threads and child
processes of the proxy, so it counts also where its core is not full. Everything passes over loopback, where the sender pays for the receiver's share of TCP, too.
Latency is measured at a steady pace, one request after the other, while work of the lowest priority keeps both cores from halting.
The file of 10,000 routes is taken over while only the worker stays on the proxy's core; everything else that the proxy
runs, its control thread among it, shares the other one with the load.
Over TLS all speak TLS 1.3 with TLS_AES_128_GCM_SHA256 and X25519, and have the same ECDSA key on P-256; nobody gives out tickets. A
handshake is a full one, with the connection it belongs to and one short request, which the proxy answers by itself.
Raw TCP passes the same requests and answers through without looking at them, with one line per stream in a file.
Compare columns of one page only: another machine, or a busier one, gives other figures and about the same ratios.
"""


@dataclass
class Goal:
    """A figure that shall be reached."""

    what: str
    # Empty where it is told only.
    wanted: str
    got: float | None
    met: bool

    @property
    def verdict(self) -> str:
        if self.got is None:
            return "not measured"
        if not self.wanted:
            return ""
        return "met" if self.met else "MISSED"


class Results:
    """What was measured."""

    def __init__(self) -> None:
        self.rounds: Rounds = {}
        # (scenario, peer) -> why there is no figure
        self.failures: dict[tuple[str, str], str] = {}

    def add(self, scenario: str, peer: str, figures: Figures) -> None:
        self.rounds.setdefault(scenario, {}).setdefault(peer, []).append(figures)

    def fail(self, scenario: str, peer: str, why: str) -> None:
        self.failures[scenario, peer] = " ".join(why.split())[:200]

    def figure(self, scenario: str, peer: str, name: str) -> float | None:
        rounds = self.rounds.get(scenario, {}).get(peer)
        return tools.median([figures[name] for figures in rounds]) if rounds else None

    def goals(self) -> list[Goal]:
        per_cpu, median = "requests per CPU second", "p50 µs"

        def ratio(scenario: str, name: str, peer: str) -> float | None:
            measured = self.rounds.get(scenario, {})
            ours, theirs = measured.get("sluice", []), measured.get(peer, [])
            # A machine that is slower for a while is slower for both: rounds are compared, not their medians.
            if not ours or len(ours) != len(theirs):
                return divided(self.figure(scenario, "sluice", name), self.figure(scenario, peer, name))
            ratios = [divided(one[name], other[name]) for one, other in zip(ours, theirs)]
            return tools.median([it for it in ratios if it is not None]) if all(ratios) else None

        def added(peer: str) -> float | None:
            direct = self.figure("latency", "direct", median)
            through = self.figure("latency", peer, median)
            return None if direct is None or through is None else through - direct

        bare = ratio("requests", per_cpu, "sluice-bare")
        quiet = self.figure("reload", "sluice", "p99 ms without")
        during = self.figure("reload", "sluice", "p99 ms during")
        effect = None if quiet is None or during is None else during - quiet
        start = self.figure("memory", "sluice", "RSS at start MiB")
        idle = self.figure("memory", "sluice", "KiB per idle connection")
        secured = self.figure("tls-memory", "sluice", "KiB per idle connection")
        taken = self.figure("reload", "sluice", "write to served ms")
        return [
            least("HTTP/1.1 requests per CPU second, of nginx's", 0.75, ratio("requests", per_cpu, "nginx")),
            least("HTTP/1.1 requests per CPU second, of Envoy's", 2.5, ratio("requests", per_cpu, "envoy")),
            least("10 MiB bodies, bytes per CPU second, of nginx's", 1.5, ratio("bodies", "GB per CPU second", "nginx")),
            least("Raw TCP, requests per CPU second, of nginx's", 0.9, ratio("tcp", per_cpu, "nginx")),
            least("Raw TCP, requests per CPU second, of Envoy's", 1.4, ratio("tcp", per_cpu, "envoy")),
            least("Raw TCP, bytes of large flows per CPU second, of nginx's", 2.5, ratio("tcp-bodies", "GB per CPU second", "nginx")),
            most("Per idle raw stream, KiB", 8, self.figure("tcp-memory", "sluice", "KiB per idle connection")),
            least("Datagrams per CPU second, of nginx's", 1.0, ratio("udp", "datagrams per CPU second", "nginx")),
            least("Tunnels per CPU second, of Envoy's", 1.0, ratio("tunnels", "tunnels per CPU second", "envoy")),
            least("Bytes through tunnels per CPU second, of Envoy's", 1.0, ratio("tunnel-bodies", "GB per CPU second", "envoy")),
            told("HTTP/2 requests per CPU second, of nginx's", ratio("http2", per_cpu, "nginx")),
            told("HTTP/2 requests per CPU second, of Envoy's", ratio("http2", per_cpu, "envoy")),
            least("Full TLS handshakes per CPU second, of nginx's", 1.3, ratio("handshakes", "handshakes per CPU second", "nginx")),
            least("HTTP/1.1 over TLS, requests per CPU second, of nginx's", 0.95, ratio("tls", per_cpu, "nginx")),
            least("HTTP/2 over TLS, requests per CPU second, of nginx's", 0.75, ratio("tls-http2", per_cpu, "nginx")),
            most("Per idle TLS connection, KiB", 28, secured),
            most("Added median latency at 1,000 requests/s, of nginx's", 1.3, divided(added("sluice"), added("nginx"))),
            most("Resident at start, MiB", 20, start),
            most("Per idle connection, KiB", 18, idle),
            most("Cost of the access log, % of a bare request", 15, None if bare is None else (1 / bare - 1) * 100),
            # Files that are being written settle first: 200 ms of quiet, then a second look after 100 ms.
            most("A file of 10,000 routes, ms after its debounce", 500, None if taken is None else taken - DEBOUNCE_MS),
            most("The same, effect on running traffic's p99, ms", 5, effect),
        ]

    def page(self, versions: dict[str, str], rounds: int, seconds: float) -> str:
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        load = " ".join(open("/proc/loadavg").read().split()[:3])
        lines = ["# What the load rig measured", "", "<!-- Written by `make bench`. -->", ""]
        lines += [
            f"{today}, {machine.describe()}; {rounds} rounds of {seconds:g} s; load average at the end {load}.",
            "",
            "| proxy | version |",
            "|---|---|",
            *(f"| {name} | {version} |" for name, version in versions.items()),
            METHOD,
            "## Goals",
            "",
            "| figure | goal | measured | |",
            "|---|---|---|---|",
        ]
        for goal in self.goals():
            lines.append(f"| {goal.what} | {goal.wanted} | {show(goal.got)} | {goal.verdict} |")
        for scenario in ALL:
            lines += self.table(scenario)
        return "\n".join(lines) + "\n"

    def table(self, scenario: Scenario) -> list[str]:
        measured = self.rounds.get(scenario.name, {})
        failed = {peer: why for (name, peer), why in self.failures.items() if name == scenario.name}
        if not measured and not failed:
            return []
        lines = ["", f"## {scenario.title}", ""]
        if measured:
            names = list(next(iter(measured.values()))[0])
            for figures in measured.values():
                names += [name for name in figures[0] if name not in names]
            lines += [f"| proxy | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
            for peer, rounds in measured.items():
                cells = [
                    show(tools.median([one[name] for one in rounds])) if name in rounds[0] else ""
                    for name in names
                ]
                lines.append(f"| {peer} | {' | '.join(cells)} |")
        lines += ["", *(f"* {peer}: no figure. {why}" for peer, why in failed.items())] if failed else []
        return lines


# What `sluice` waits for before it reads a changed file.
DEBOUNCE_MS = 300


def divided(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def least(what: str, wanted: float, got: float | None) -> Goal:
    return Goal(what, f"≥ {wanted:g}", got, got is not None and got >= wanted)


def most(what: str, wanted: float, got: float | None) -> Goal:
    return Goal(what, f"≤ {wanted:g}", got, got is not None and got <= wanted)


def told(what: str, got: float | None) -> Goal:
    return Goal(what, "", got, True)


def show(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
