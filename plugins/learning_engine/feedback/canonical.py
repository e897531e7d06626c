"""Canonical JSON text, identical to PostgreSQL's output for a jsonb value. Its digest identifies a message.

Keys are sorted by length, then by bytes. The last of several equal keys wins. One space follows each comma and colon,
and numbers are written in full. The database can therefore compute the digest, and a file gives the same one.
"""

import hashlib
import json
import re
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

LARGEST_EXPONENT = 131_072  # jsonb's limit; without one, a number's text could grow without bound
SURROGATE = re.compile("[\ud800-\udfff]")


def parse(text: str) -> Any:
    """Parse JSON, with numbers as Decimals. Raises ValueError, or RecursionError if it is nested too deeply."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def canonical(value: Any) -> str:
    """The text of `value` (strings, numbers, None, lists, dicts; anything else through `str`), encodable as UTF-8.

    A lone surrogate, which jsonb cannot store, is written as its escape sequence. Raises RecursionError.
    """
    text = _text(value)
    if text.isascii():
        return text
    return escape_surrogates(text)


def message_digest(request: str, response: str) -> str:
    """The sha256, in hexadecimal, of the canonical array of two canonical texts."""
    return hashlib.sha256(f"[{request}, {response}]".encode()).hexdigest()


def escape_surrogates(text: str) -> str:
    return SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float | Decimal):
        return _number(Decimal(str(value)))
    if isinstance(value, list | tuple):
        return "[" + ", ".join([_text(item) for item in value]) + "]"
    if isinstance(value, dict):
        keys = sorted(((str(key).encode("utf-8", "surrogatepass"), key) for key in value), key=lambda pair: pair[0])
        keys.sort(key=lambda pair: len(pair[0]))
        return "{" + ", ".join([f"{encode_basestring(str(key))}: {_text(value[key])}" for _, key in keys]) + "}"
    return encode_basestring(str(value))


def _number(value: Decimal) -> str:
    if not value.is_finite():
        return "null"
    if abs(value.adjusted()) > LARGEST_EXPONENT:
        return str(value)
    text = format(value, "f")
    return text.removeprefix("-") if value.is_zero() else text
