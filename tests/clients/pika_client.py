"""pika: `URL publish EXCHANGE QUEUE` publishes messages of every kind, `URL read QUEUE COUNT` reads messages.

Published are, each with its name as the property `type` unless it shall have no properties:
headers and properties of every type, payloads of every kind. Read messages are printed as JSON, one a line.
"""

import codecs
import datetime
import decimal
import gzip
import json
import time
import uuid
import zlib

import msgpack
import pika

from common import ORDER, arguments, tell

HEADERS = {
    "text": "größe",
    "empty": "",
    "small": 42,
    "large": 2**40,
    "negative": -7,
    "yes": True,
    # pika 1.2 has no floats.
    "decimal": decimal.Decimal("12.50"),
    "time": datetime.datetime(2024, 2, 29, 12, 0, 0),
    "tenant": b"acme",
    "bytes": b"\xff\xfe",
    "nil": None,
    "list": [1, "a", None, b"b", {"deep": True}],
    "table": {"a": {"b": [1]}},
    "x-request-id": "r",
    "X-B3-TraceId": "t",
    "größe": "m",
}


def payloads():
    """Name, properties and body of messages whose payload is the order."""
    text = json.dumps(ORDER)
    plain = json.dumps(ORDER, ensure_ascii=False)
    packed = msgpack.packb(ORDER)
    yield "json", {}, text
    yield "json-bom", {}, codecs.BOM_UTF8 + plain.encode()
    yield "json-utf-16", {"content_encoding": "utf-16"}, plain.encode("utf-16")
    yield "json-utf-16-be", {}, plain.encode("utf-16-be")
    yield "json-gzip", {"content_encoding": "gzip"}, gzip.compress(text.encode())
    yield "json-zlib", {"content_encoding": "deflate"}, zlib.compress(text.encode())
    yield "msgpack", {"content_type": "application/x-msgpack"}, packed
    yield "msgpack-gzip", {"content_encoding": "gzip"}, gzip.compress(packed)
    yield "msgpack-old", {}, msgpack.packb(ORDER, use_bin_type=False)
    yield "msgpack-single", {}, msgpack.packb(ORDER, use_single_float=True)
    yield "msgpack-forms", {}, msgpack.packb(
        {
            "id": str(uuid.UUID(int=1)),
            "at": datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc),
            "count": 3.0,
            "lines": None,
            "raw": b"acme",
            "by_number": {7: "seven"},
        },
        datetime=True,
    )


def publish(channel, exchange, queue):
    def send(name, body, key=None, **properties):
        to = (exchange, exchange) if key is None else key
        channel.basic_publish(*to, body, pika.BasicProperties(type=name, **properties), mandatory=True)

    # As the first example of pika's documentation does: no properties at all, straight into the queue.
    channel.basic_publish("", queue, "Hello World!", mandatory=True)
    send("straight", "{}", key=("", queue))
    send("headers", "{}", headers=HEADERS)
    send(
        "properties",
        "{}",
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        priority=5,
        correlation_id="c",
        reply_to="r",
        expiration="60000",
        message_id="17",
        timestamp=1709208000,
        app_id="a",
    )
    # Milliseconds, where AMQP has seconds.
    send("milliseconds", "{}", timestamp=1709208000123, headers={"number": 2**31})
    send("uuid", "{}", message_id="6f1c2c6e-6a7e-4a0e-9d7f-2f4a0e1c2d3b")
    send("empty", b"", message_id="")
    for name, properties, body in payloads():
        send(name, body, **properties)


def read(channel, queue, count):
    end = time.monotonic() + 60
    while count > 0 and time.monotonic() < end:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            time.sleep(0.05)
            continue
        count -= 1
        tell(
            {
                "id": properties.message_id,
                "content_type": properties.content_type,
                "delivery_mode": properties.delivery_mode,
                "reply_to": properties.reply_to,
                "headers": properties.headers,
                "payload": decoded(properties.content_type, body),
            }
        )


def decoded(content_type, body):
    """The payload, if its content type is one of a bus."""
    if content_type == "application/json":
        return json.loads(body)
    return msgpack.unpackb(body) if content_type == "application/msgpack" else None


def main():
    url, command, place, more = arguments(4)
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    if command == "publish":
        # A message that no queue takes is an error.
        channel.confirm_delivery()
        publish(channel, place, more)
    else:
        read(channel, place, int(more))
    connection.close()


main()
