"""kombu: `URL publish EXCHANGE QUEUE` publishes messages of every kind, `URL read QUEUE COUNT` reads messages.

Published are, each with its name as the property `type`: headers of every type, every serializer that Debian's
kombu has, every compression. Read messages are printed as JSON, one a line.
"""

import datetime
import decimal
import socket

import kombu
import kombu.serialization
import msgpack

from common import ORDER, arguments, tell

HEADERS = {
    "text": "größe",
    "small": 42,
    "large": 2**40,
    "negative": -7,
    "no": False,
    "float": 1.5,
    "whole": 12.0,
    "decimal": decimal.Decimal("12.50"),
    "time": datetime.datetime(2024, 2, 29, 12, 0, 0),
    "tenant": b"acme",
    "nil": None,
    "list": [1, "a", None, {"deep": True}],
    "table": {"a": {"b": [1]}},
    "x-tenant": "acme",
}


def publish(connection, exchange, queue):
    producer = connection.Producer()

    def send(name, body, to=(exchange, exchange), **options):
        producer.publish(body, exchange=to[0], routing_key=to[1], type=name, **options)

    send("straight", ORDER, to=("", queue))
    send("headers", ORDER, headers=HEADERS)
    send(
        "properties",
        ORDER,
        priority=5,
        expiration=60,
        correlation_id="c",
        reply_to="r",
        message_id="17",
        app_id="a",
        timestamp=1709208000,
        delivery_mode="transient",
    )
    send("text", "größe")
    send("bytes", b"\xff\xfe")
    for serializer in "json", "msgpack", "yaml", "pickle":
        send(serializer, ORDER, serializer=serializer)
        send(f"{serializer}-gzip", ORDER, serializer=serializer, compression="gzip")
    for compression in "zlib", "bzip2", "lzma":
        send(f"json-{compression}", ORDER, compression=compression)


def read(connection, queue, count):
    # What a bus writes by default; kombu knows it under another name.
    kombu.serialization.register(
        "final", msgpack.packb, msgpack.unpackb, content_type="application/msgpack", content_encoding="binary"
    )
    left = [count]

    def got(payload, message):
        left[0] -= 1
        properties = message.properties
        tell(
            {
                "id": properties["message_id"],
                "content_type": message.content_type,
                "delivery_mode": properties["delivery_mode"],
                "reply_to": properties["reply_to"],
                "headers": message.headers,
                "payload": payload,
            }
        )
        message.ack()

    queues = [kombu.Queue(queue, no_declare=True)]
    with connection.Consumer(queues, callbacks=[got], accept=["json", "final"], auto_declare=False):
        while left[0] > 0:
            try:
                connection.drain_events(timeout=60)
            except socket.timeout:
                break


def main():
    url, command, place, more = arguments(4)
    with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection:
        if command == "publish":
            publish(connection, place, more)
        else:
            read(connection, place, int(more))


main()
