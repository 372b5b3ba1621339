#!/usr/bin/env python3
"""Reads the events of orders from Kafka and applies an effect once for each version of an order.

    python3 examples/consumer.py [--until-end]

Settings, as variables: KAFKA_BROKERS (localhost:9092), ORDERS_EVENTS_TOPIC (orders.events), CONSUMER_GROUP
(my-consumer), CONSUMER_DATABASE (consumer.db).

The effect here is a row in a SQLite file: the newest content of each order. Three rules make it safe:

1. An event is identified by its order and its version. The version is written in the transaction of the effect, and an
   event whose version is not newer changes nothing. Kafka delivers at least once, so an event may be redelivered.
2. The offset is stored after that transaction. After a crash in between the event is redelivered, which rule 1 allows.
3. A record that cannot be read is put aside with its offset, and the partition continues.
"""

import json
import os
import sqlite3
import sys

from confluent_kafka import Consumer, KafkaError


def open_database(path):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(
        "CREATE TABLE IF NOT EXISTS orders ("
        "order_id TEXT PRIMARY KEY, version INTEGER NOT NULL, status TEXT NOT NULL, event TEXT NOT NULL)"
    )
    database.execute("CREATE TABLE IF NOT EXISTS unreadable (position TEXT PRIMARY KEY, reason TEXT NOT NULL)")
    return database


def version_of(record):
    """The version in the headers; None in an event of a service that counts no versions."""
    for name, value in record.headers() or []:
        if name == "order-version":
            return int(value)
    return None


def apply(database, record):
    """Applies the effect of one event, unless that was done before. Returns a line for the output."""
    event = json.loads(record.value())
    order_id, version = event["order_id"], version_of(record)
    if version is None:
        raise ValueError("the event has no order-version")
    # One statement, so one transaction: the effect and the version that guards it. The text of the event is kept
    # unchanged, because its numbers may have more digits than a float.
    changed = database.execute(
        "INSERT INTO orders (order_id, version, status, event) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (order_id) DO UPDATE SET "
        "version = excluded.version, status = excluded.status, event = excluded.event "
        "WHERE orders.version < excluded.version",
        (order_id, version, event["status"], record.value().decode()),
    )
    return f"{'applied' if changed.rowcount > 0 else 'known'} {order_id} {version}"


def put_aside(database, record, reason):
    position = f"{record.topic()}/{record.partition()}/{record.offset()}"
    database.execute("INSERT OR IGNORE INTO unreadable (position, reason) VALUES (?, ?)", (position, str(reason)))
    print(f"put aside {position}: {reason}", file=sys.stderr, flush=True)


def main():
    until_end = "--until-end" in sys.argv[1:]
    database = open_database(os.environ.get("CONSUMER_DATABASE", "consumer.db"))
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ.get("KAFKA_BROKERS", "localhost:9092"),
            "group.id": os.environ.get("CONSUMER_GROUP", "my-consumer"),
            "auto.offset.reset": "earliest",
            # Stored offsets are committed in the background; an offset is stored only after its effect.
            "enable.auto.offset.store": False,
            "enable.partition.eof": until_end,
        }
    )
    topic = os.environ.get("ORDERS_EVENTS_TOPIC", "orders.events")
    consumer.subscribe([topic])
    ended = set()
    try:
        while True:
            record = consumer.poll(1.0)
            if record is None:
                continue
            if record.error():
                if record.error().code() != KafkaError._PARTITION_EOF:
                    # The client reconnects by itself; other errors are fatal.
                    if record.error().fatal():
                        raise SystemExit(f"consumer: {record.error()}")
                    print(f"consumer: {record.error()}", file=sys.stderr, flush=True)
                    continue
                ended.add(record.partition())
                if ended >= {partition.partition for partition in consumer.assignment()}:
                    break
                continue
            ended.discard(record.partition())
            try:
                print(apply(database, record), flush=True)
            except (ValueError, KeyError, TypeError) as reason:
                put_aside(database, record, reason)
            consumer.store_offsets(record)
    except KeyboardInterrupt:
        pass
    finally:
        # Commits the stored offsets, and leaves the group.
        consumer.close()
        database.close()


if __name__ == "__main__":
    main()
