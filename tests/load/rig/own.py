"""Loads that are programs of ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .machine import LOAD_CPU, LOAD_NICE, RigError, settle

HERE = Path(__file__).resolve().parent.parent


def build(name: str, folder: Path) -> Path:
    """Only the standard library is needed, so nothing else is built with it."""
    program = folder / name
    source = HERE / f"{name}.rs"
    # An example of the tests, too: that is why there are words of clippy's in it.
    command = ["rustc", "--edition", "2024", "-O", "-A", "unknown_lints", "-A", "unfulfilled_lint_expectations"]
    done = subprocess.run(
        [*command, "-o", str(program), str(source)], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        raise RigError(f"rustc: {done.stderr[-500:]}")
    return program


def run(program: Path, words: list[str], seconds: float) -> dict[str, float]:
    """What it says, from the core of the load."""
    done = subprocess.run(
        [str(program), *words],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
        preexec_fn=lambda: settle({LOAD_CPU}, LOAD_NICE),
    )
    if done.returncode != 0:
        raise RigError(f"the load ended early: {done.stderr[-500:]}")
    return json.loads(done.stdout)
