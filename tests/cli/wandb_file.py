"""Reading a `.wandb` file back: a 7-byte header, then a LevelDB-style log of protobuf records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32 * 1024
_HEADER = b":W&B"
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class WandbRun:
    """What one file holds: `config` nested, `rows` as they were logged, and how the run ended."""

    run_id: str = ""
    name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    def logged(self) -> set[str]:
        """Every key that was ever logged; the nested ones joined with slashes."""
        return {key for row in self.rows for key in row}


def read_wandb_run(file: Path) -> WandbRun:
    """The contents of `file`."""
    run = WandbRun()
    for record in _records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run_id, run.name = record.run.run_id, record.run.display_name
            run.config |= {_key(item): json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            run.rows.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _records(content: bytes) -> Iterator[Record]:
    assert content[:4] == _HEADER, "no .wandb file"
    position, parts = 7, b""
    while position + 7 <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < 7:  # too little for a chunk's header: padding
            position += left
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]
        data = content[position + 7 : position + 7 + length]
        assert len(data) == length, "the file ends within a record"
        position += 7 + length
        if kind in (_FULL, _FIRST):
            assert not parts, "a record was begun and not ended"
        parts += data
        if kind in (_FULL, _LAST):
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
        else:
            assert kind in (_FIRST, _MIDDLE)
