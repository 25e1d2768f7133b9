"""Encoded pictures in parquet files: one file, or the shards of a folder."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from drawnet.data.io.collection import LABEL_WORDS, Own, Pictures, gathered, numbered, one, split_of
from drawnet.data.io.files import afford, needing, reading

_META = b"huggingface"
"""The key under which Hugging Face's `datasets` keeps the names of classes in a schema."""


class Table(NamedTuple):
    """The columns of a parquet file that are of use: pictures, labels or None, names of classes."""

    cells: list[Any]
    labels: list[Any] | None
    names: tuple[str, ...]


def from_parquet(files: Mapping[str, Path], where: Path, own: Own) -> Pictures:
    """Open a column of encoded pictures, bytes or {bytes, path}, and a column of labels if there is one.

    Of several files, 'train-00000-of-00002.parquet' and its like are shards of a split.
    """
    splits = [split_of(PurePosixPath(name).stem)[0] for name in files]
    splits = splits if "train" in splits and "" not in splits else [""] * len(files)
    tables = [_read(path, own) for path in files.values()]
    counts = [len(table.cells) for table in tables]
    names = [f"{name}, row {k}" for name, n in zip(files, counts, strict=True) for k in range(n)]
    found = gathered(
        names if len(files) > 1 else [str(k) for k in range(len(names))],
        [_bytes(cell) for table in tables for cell in table.cells],
        lambda k: str(where / names[k] if where.is_dir() else where.with_name(names[k])),
        where,
        own.background,
    )
    empty: list[Any] = []
    values = [table.labels or [None] * len(table.cells) for table in tables]
    labels = numbered(sum(values, empty), f"{where}, row", tables[0].names)
    owners = [s for s, n in zip(splits, counts, strict=True) for _ in range(n)]
    return replace(found, labels=labels, splits=owners if any(owners) else ())


def _read(path: Path, own: Own) -> Table:
    with needing("pyarrow", path, "parquet"):
        import pyarrow.types as kinds
        from pyarrow import parquet

    def binary(kind: Any) -> bool:
        return bool(
            kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind)
        )

    with reading(path, "parquet file"):
        file = parquet.ParquetFile(path)
        groups = range(file.metadata.num_row_groups)
        afford(sum(file.metadata.row_group(k).total_byte_size for k in groups), path)
        schema = file.schema_arrow
        able = [
            field.name
            for field in schema
            if binary(field.type)
            or (kinds.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
        ]
        key = one(own.key, able, "column of pictures", path)
        words = LABEL_WORDS if own.labels is None else (own.labels,)
        label = next((word for word in words if word in schema.names and word != "none"), None)
        if own.labels not in (None, "none"):
            label = one(own.labels, schema.names, "column of labels", path)
        columns = file.read([key, label] if label else [key]).to_pydict()
        meta = (schema.metadata or {}).get(_META, b"{}")
    return Table(columns[key], columns[label] if label else None, _class_names(meta, label))


def _class_names(meta: bytes, label: str | None) -> tuple[str, ...]:
    """Return the names of the classes that Hugging Face's metadata give to this column, if they do."""
    try:
        names = json.loads(meta)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    fits = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if fits else ()


def _bytes(cell: Any) -> bytes:
    """Return a cell's bytes; none for any other cell, which is then refused as corrupt.

    Text is not bytes: Pillow would open it as a path on this machine.
    """
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    return found if isinstance(found, bytes) else b""
