"""The baselines of the comparison: Postgres under pgbench, and Kafka under its own producer benchmark."""

import glob
import os
import re
import subprocess
import uuid
from pathlib import Path

from common import SCRIPTS, SECONDS, Run, call, die

PARTITIONS = 4
RECORD_BYTES = 400


class Servers:
    """Servers of our own in `folder`, by scripts/servers; they are deleted with all their data at the end."""

    def __init__(self, folder, cleanup):
        self.env = {**os.environ, "ORDERSTREAM_SERVERS": str(folder / "servers")}
        # Not those of the caller, which may be anywhere.
        for name in ("POSTGRES_DSN", "REDIS_ADDR", "KAFKA_BROKERS"):
            self.env.pop(name, None)
        cleanup.callback(self.script, "down", "--purge")

    def script(self, *words, **options):
        return call(SCRIPTS / "servers", *words, env=self.env, **options)

    def up(self, *names):
        """Starts the servers and returns their addresses, by setting."""
        return dict(line.split("=", 1) for line in self.script("up", *names).splitlines())


class Postgres:
    """A fresh database of the cluster, until `cleanup`."""

    def __init__(self, servers, cleanup):
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[4]))
        self.server = servers.up("postgres")["POSTGRES_DSN"].rpartition("/")[0]
        name = f"bench_{uuid.uuid4().hex[:8]}"
        self.sql("postgres", "-c", f"CREATE DATABASE {name}")
        cleanup.callback(self.sql, "postgres", "-c", f"DROP DATABASE {name} WITH (FORCE)")
        self.dsn = f"{self.server}/{name}"

    def sql(self, database, *words):
        call(self.bin / "psql", "-q", "-v", "ON_ERROR_STOP=1", *words, f"{self.server}/{database}")


class Pgbench:
    """Two writes by hand per order, into the table of the service in a database of its own."""

    def __init__(self, servers, folder, cleanup):
        self.log = folder / "pgbench-log"
        self.postgres = Postgres(servers, cleanup)
        self.postgres.sql(self.postgres.dsn.rpartition("/")[2], "-f", SCRIPTS / "pgbench/table.sql")

    def run(self, clients, protocol, seconds=SECONDS):
        text = call(self.postgres.bin / "pgbench", "-n", "-M", protocol, "-f", SCRIPTS / "pgbench/order.sql",
                    "-c", clients, "-j", min(clients, 2), "-T", seconds,
                    "-l", f"--log-prefix={self.log}", "--sampling-rate=0.1", self.postgres.dsn,
                    timeout=seconds + 120, stderr=subprocess.DEVNULL)
        if "failed transactions: 0 " not in text:
            die(f"pgbench had failures\n{text}")
        files = glob.glob(f"{glob.escape(str(self.log))}.*")
        times = sorted(int(line.split()[2]) / 1e3 for file in files for line in open(file))
        for file in files:
            os.remove(file)
        return Run(int(re.search(r"actually processed: (\d+)", text)[1]),
                   float(re.search(r"tps = ([\d.]+)", text)[1]),
                   times[len(times) // 2], times[len(times) * 99 // 100])


class KafkaProducer:
    """One producer at full speed, to a topic like the service's, with full batches."""

    def __init__(self, servers, cleanup):
        self.servers = servers
        self.brokers = servers.up("kafka")["KAFKA_BROKERS"]
        self.topic = f"bench.{uuid.uuid4().hex[:8]}"
        self.topics("--create", "--partitions", PARTITIONS)
        cleanup.callback(self.topics, "--delete")
        # This run finds the number of records that fill the time, and warms the broker up.
        self.rate = self.send(300_000).rate

    def topics(self, *words):
        self.servers.script("tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.brokers,
                            "--topic", self.topic, *words)

    def run(self, _clients, _protocol, seconds=SECONDS):
        return self.send(int(self.rate * seconds))

    def send(self, records):
        text = self.servers.script(
            "tool", "org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", self.brokers,
            "--topic", self.topic, "--num-records", records, "--record-size", RECORD_BYTES, "--throughput", -1,
            "--command-property", "acks=all", "batch.size=262144")
        last = text.strip().splitlines()[-1]
        found = re.match(r"(\d+) records sent, ([\d.]+) records/sec.* (\d+) ms 50th.* (\d+) ms 99th", last)
        if not found or int(found[1]) != records:
            die(f"Kafka's ProducerPerformance ended with: {last}")
        return Run(records, *map(float, found.groups()[1:]))
