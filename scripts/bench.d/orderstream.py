"""OrderStream as child processes: one with everything embedded, an API and a worker, or peers on one database."""

import contextlib
import http.client
import json
import os
import re
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import SCRIPTS, SECONDS, Run, call, die, free_ports, say

STOP_SECONDS = 60


class OrderStream:
    """The processes of `roles`, with `settings` and defaults for all others; the last one gets the requests."""

    def __init__(self, binary, folder, cleanup, roles=("up",), settings=None):
        self.orders = 0
        # A short environment, so that no setting of the caller leads the service to other backends.
        base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        base |= {"LOG_LEVEL": "warn", "DATA_DIR": str(folder / "data"), **(settings or {})}
        if settings:
            call(binary, "migrate", env=base, cwd=folder)
        self.logs, self.children = [], {}
        for role in roles:
            self.port, grpc_port = free_ports(2)
            env = base | {"API_PORT": str(self.port), "GRPC_PORT": str(grpc_port)}
            self.logs.append(folder / f"orderstream-{role}.log")
            with open(self.logs[-1], "wb") as log:
                child = subprocess.Popen([str(binary), role], env=env, cwd=folder, stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log)
            self.children[role] = child
            cleanup.callback(self.stop, role)
        self.wait_until_ready()
        self.prove_one_order()

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def alive(self):
        return all(child.poll() is None for child in self.children.values())

    def wait_until_ready(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.alive():
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/health/ready")[0] == 200:
                    return
            time.sleep(0.05)
        self.fail("it did not become ready")

    def prove_one_order(self):
        """Measures the whole life of an order: it is processed when the 201 arrives."""
        order = {"order_id": "0", "user_id": str(uuid.uuid4()), "payload": {"id": "probe", "amount": 1}}
        status, body = self.ask("POST", "/orders", order)
        if status != 201:
            self.fail(f"the first order was answered {status} {body!r}")
        status, body = self.ask("GET", f"/orders/{json.loads(body)['order_id']}")
        if status != 200 or json.loads(body)["order"]["status"] != "done":
            self.fail(f"the first order was answered 201, yet it reads {status} {body!r}")

    def run(self, clients, protocol="http", seconds=SECONDS):
        # An order that is stored but not processed in time gets a 202, after more than these 10 s: an error, too.
        text = call("wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s",
                    "-s", SCRIPTS / "wrk/create.lua", f"http://127.0.0.1:{self.port}", "--", protocol,
                    timeout=seconds + 120)
        line = re.search(r"^result (.*)$", text, re.MULTILINE)
        if not self.alive() or not line:
            self.fail(f"wrk got no result\n{text}")
        result = {name: float(value) for name, value in (pair.split("=") for pair in line[1].split())}
        if result["refused"] or result["broken"] or not result["requests"]:
            self.fail(f"not every order was taken: {line[1]}")
        self.orders += int(result["requests"])
        return Run(int(result["requests"]), result["requests"] / result["seconds"],
                   result["p50_ms"], result["p99_ms"])

    def memory(self):
        """Peak and present resident memory of each process, in words."""
        each = []
        for role, child in self.children.items():
            status = Path(f"/proc/{child.pid}/status").read_text()
            peak, now = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) // 1024 for name in ("VmHWM", "VmRSS"))
            each.append(f"`{role}` peak {peak} MiB, now {now} MiB")
        return f"memory at {self.orders:,} orders: " + "; ".join(each)

    def fail(self, text):
        tails = "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-2000:]}" for log in self.logs)
        die(f"OrderStream: {text}\n{tails}")

    def stop(self, role):
        child = self.children[role]
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            say(f"`orderstream {role}` did not stop within {STOP_SECONDS} s and was killed")


class Peers:
    """Several services on one store: each gets its share of the clients, all at the same time."""

    def __init__(self, services):
        self.services = services

    def run(self, clients, protocol="http", seconds=SECONDS):
        """The rates add up; the times are those of the slowest."""
        each = max(1, clients // len(self.services))
        with ThreadPoolExecutor(len(self.services)) as pool:
            runs = list(pool.map(lambda service: service.run(each, protocol, seconds), self.services))
        return Run(sum(run.orders for run in runs), sum(run.rate for run in runs),
                   max(run.p50_ms for run in runs), max(run.p99_ms for run in runs))
