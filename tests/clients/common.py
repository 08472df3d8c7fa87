"""What the scripts of the Python clients share: how bytes and times are shown as JSON."""

import base64
import datetime
import decimal
import json
import sys

# The producers' order, as a bus, JSON and msgpack have it.
ORDER = {"id": 7, "customer": "Zoë", "total": 12.5, "lines": [{"sku": "a", "count": 2}]}


def tell(value):
    """Prints one line of JSON, which the test reads."""
    print(json.dumps(shown(value), sort_keys=True), flush=True)


def shown(value):
    """A value as JSON: bytes as {"bytes": base64}, other types that JSON lacks as {"NAME OF TYPE": text}."""
    if isinstance(value, dict):
        return {str(name): shown(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime.datetime):
        return {"time": value.replace(tzinfo=None).isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    return value


def arguments(count):
    """The arguments, of which there are so many."""
    given = sys.argv[1:]
    if len(given) != count:
        sys.exit(f"{sys.argv[0]} takes {count} arguments, not {given}")
    return given
