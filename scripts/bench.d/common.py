"""The base of scripts/bench: its settings, one run's result, and commands that must succeed."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).resolve().parent.parent
SECONDS = int(os.environ.get("BENCH_SECONDS", 10))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", 2))
ORDERS = int(os.environ.get("BENCH_ORDERS", 2_000_000))
FILL_SECONDS = int(os.environ.get("BENCH_FILL_SECONDS", 1200))
SYSTEMS = os.environ.get("BENCH_SYSTEMS", "embedded full").split()


class Run(NamedTuple):
    """One measured run; `orders` is the number of completed orders, or of records."""

    orders: int
    rate: float
    p50_ms: float
    p99_ms: float


def say(text):
    print(text, file=sys.stderr, flush=True)


def die(text):
    sys.exit(f"bench: {text}")


def call(*command, timeout=600, **options):
    """Runs a command to its end and returns what it printed; any failure ends the benchmark."""
    try:
        done = subprocess.run([str(word) for word in command], check=True, text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
        die(f"{failure}\n{failure.stdout or ''}")
    return done.stdout


def free_ports(count):
    """Different ones: each is held until all are found."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports


def install_wrk():
    if shutil.which("wrk"):
        return
    say("installing wrk")
    root = [] if os.geteuid() == 0 else ["sudo"]
    call(*root, "apt-get", "update", "-qq")
    call(*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "-y", "wrk")


def built_server():
    if given := os.environ.get("BENCH_SERVER"):
        return Path(given).resolve()
    say("building with the profile dist, as releases are")
    repository = SCRIPTS.parent
    call("cargo", "build", "--profile", "dist", "--locked", cwd=repository, timeout=3600)
    return Path(os.environ.get("CARGO_TARGET_DIR", repository / "target")).resolve() / "dist/orderstream"
