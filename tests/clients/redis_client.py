"""redis-py: `PORT DSN publish COUNT` publishes to a gateway, `PORT DSN consume COUNT` consumes from it and commits.

Published are a text, bytes, and COUNT messages in one pipeline. What the client answers and the messages are printed as
JSON, one a line.
"""

import json
import sys

import redis

from common import tell


def publish(client, count):
    tell({"text": client.set("k1", json.dumps({"name": "Zoë"}))})
    tell({"bytes": client.set("k2", b"\xff\x00\r\n")})
    pipeline = client.pipeline(transaction=False)
    for number in range(count):
        pipeline.set(f"p{number}", number)
    tell({"pipeline": pipeline.execute() == [True] * count})
    try:
        client.execute_command("FLUSHALL")
    except redis.ResponseError as error:
        tell({"unknown": str(error)})
    tell({"ping": client.ping()})


def consume(client, count):
    taken = 0
    while taken < count:
        lot = [json.loads(message) for message in client.mget("")]
        for message in lot:
            tell(message)
        taken += len(lot)
        ends = {message["partition"]: message["offset"] for message in lot}
        for partition, offset in ends.items():
            assert client.execute_command("SET", partition, offset)


def main():
    port, dsn, work, count = sys.argv[1:]
    # RESP3 came with version 5.
    options = {"protocol": 3} if int(redis.__version__.split(".")[0]) >= 5 else {}
    client = redis.Redis(port=int(port), password=dsn, socket_timeout=60, **options)
    {"publish": publish, "consume": consume}[work](client, int(count))


main()
