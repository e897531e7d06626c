"""Files of an adapter that a server must not load: missing, of another kind, or with damaged bytes."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning_engine.errors import PreflightError
from learning_engine.serving.tensors import all_finite, read_header
from tests.serving.test_adapter_check import Q_A, check

FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda a: (a / "adapter_model.safetensors").unlink(), "expected a file adapter_model.safetensors"),
    "no configuration": (lambda a: (a / "adapter_config.json").unlink(), "expected a file adapter_config.json"),
    "pickle": (lambda a: (a / "adapter_model.bin").write_bytes(b"\x80"), "found adapter_model.bin"),
    "code": (lambda a: (a / "modeling.py").write_text(""), "found modeling.py"),
    "folder": (lambda a: (a / "README.md").mkdir(), "expected a regular file"),
    "link": (lambda a: (a / "README.md").symlink_to("/etc/hostname"), "expected a regular file"),
    "configuration is no JSON": (lambda a: (a / "adapter_config.json").write_text("{"), "unreadable JSON"),
    "configuration is a list": (lambda a: (a / "adapter_config.json").write_text("[]"), "JSON of type list"),
    "a key twice": (lambda a: (a / "adapter_config.json").write_text('{"r": 8, "r": 16}'), "a duplicate key"),
    "huge": (lambda a: (a / "adapter_config.json").write_text(" " * (2 << 20)), "at most 1048576 bytes"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(adapter: Path, base: Path, name: str) -> None:
    change, reason = FILES[name]
    change(adapter)
    with pytest.raises(PreflightError, match=reason):
        check(adapter, base)


def _header(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _edited(data: bytes, **changes: Any) -> bytes:
    header, body = _header(data)
    header[Q_A] |= changes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "a header of 0 bytes in a file of 0"),
    "seven bytes": (lambda data: data[:7], "in a file of 7"),
    "cut in the header": (lambda data: data[:100], "a header of"),
    "cut in the data": (lambda data: data[:-1], "data that end at byte"),
    "an extra byte": (lambda data: data + b"\0", "data that end at byte"),
    "a huge header": (lambda data: b"\xff" * 8 + data[8:], "a header of 18446744073709551615 bytes"),
    "a header that is no JSON": (lambda data: data[:8] + b"#" + data[9:], "unreadable JSON"),
    "overlap": (lambda data: _edited(data, data_offsets=[0, 4096]), "at byte .* instead of"),
    "negative offsets": (lambda data: _edited(data, data_offsets=[-4096, 0]), "shape .* and offsets"),
    "offsets as text": (lambda data: _edited(data, data_offsets="ab"), "shape .* and offsets"),
    "one offset": (lambda data: _edited(data, data_offsets=[0]), "no dtype, shape and data_offsets"),
    "shape and bytes differ": (lambda data: _edited(data, shape=[16, 65]), "bytes for .* of type F32"),
    "shape with a fraction": (lambda data: _edited(data, shape=[16.0, 64]), "shape .* and offsets"),
    "a list as dtype": (lambda data: _edited(data, dtype=["F32"]), "no dtype, shape and data_offsets"),
    "bfloat16": (lambda data: _edited(data, dtype="BF16"), "as one of F32, F16, found 'BF16'"),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes(adapter: Path, base: Path, name: str) -> None:
    change, reason = BYTES[name]
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(PreflightError, match=reason):
        check(adapter, base)


def test_damage_anywhere_in_the_header_is_refused_or_harmless(adapter: Path, tmp_path: Path) -> None:
    intact = (adapter / "adapter_model.safetensors").read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        data = bytearray(intact)
        data[generator.integers(len(intact) - len(_header(intact)[1]))] = generator.integers(256)
        damaged.write_bytes(data)
        try:
            assert all(all_finite(damaged, tensor) for tensor in read_header(damaged))
        except PreflightError:
            refused += 1
    assert refused > 250
