"""Pictures, arrays, tables and folders of images."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from conftest import make_run
from drawnet import data as sets
from drawnet import models
from drawnet.errors import UserError
from drawnet.models.draw import DrawConfig
from drawnet.training import checkpoint
from fuzz.harness import Box, Fault, called, command, damage, kind

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "ICO", "TGA"]
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "HSV", "LAB"]
SIDES = st.sampled_from([1, 2, 3, 8, 28, 64, 1000])


def make_model(box: Box) -> None:
    config = DrawConfig(steps=2, units=8, latents=3, read=2, write=2)
    torch.manual_seed(0)
    network = models.build(config, (1, 8, 8))
    from dataclasses import replace

    run = replace(make_run(), model=config)
    checkpoint.save_model(box.shared / "net.safetensors", network, run, {"examples": 8})


def picture(data: st.DataObject) -> tuple[bytes, str]:
    """A picture of any mode, size and format, and what it is."""
    mode, size = data.draw(st.sampled_from(MODES)), (data.draw(SIDES), data.draw(SIDES))
    image = Image.new(mode if mode != "I;16" else "I", size)
    if mode in ("L", "RGB", "RGBA", "I", "F") and data.draw(st.booleans()):
        image.paste(
            data.draw(st.sampled_from([0, 1, 200, 255])), (0, 0, *[max(1, s // 2) for s in size])
        )
    if mode == "I;16":
        image = image.convert("I;16")
    buffer, chosen = io.BytesIO(), data.draw(st.sampled_from(FORMATS))
    options: dict[str, Any] = {}
    if data.draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = data.draw(st.sampled_from([1, 6, 8, 0, 99]))
        options["exif"] = exif
    try:
        image.save(buffer, chosen, **options)
    except Exception:  # that mode has no such format
        buffer, chosen = io.BytesIO(), "PNG"
        Image.new("L", size, 9).save(buffer, chosen)
    return buffer.getvalue(), f"{mode} {size} {chosen}"


@kind(600, make_model)
def picture_files(data: st.DataObject, box: Box) -> str:
    raw, what = picture(data)
    match data.draw(st.sampled_from(["whole", "damaged", "damaged", "junk"])):
        case "damaged":
            raw, what = damage(data, raw), f"{what}, damaged"
        case "junk":
            raw, what = raw[:12] + data.draw(st.binary(max_size=80)), "junk"
    box.note(what)
    Path("p.png").write_bytes(raw)
    words = ["reconstruct", str(box.shared / "net.safetensors"), "p.png", "--out", "o.png"]
    return command(box, words + data.draw(st.sampled_from([[], ["--invert"]])))


# ---- data ---------------------------------------------------------------------------------------


def sound(path: str, **options: Any) -> None:
    """Load images, and check what a data set promises."""
    found = sets.load(path, **options)
    for images in found.splits.values():
        pixels = images.pixels[:]
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or not len(pixels):
            raise Fault(f"loaded {pixels.dtype} {pixels.shape}")
        labels = images.labels
        if labels is not None and (labels.dtype != np.int64 or labels.min() < -1):
            raise Fault(f"loaded labels {labels.dtype}, {labels.min()}")


def loaded(box: Box, path: str, **options: Any) -> str:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return called(lambda: sound(path, **options), errors=(UserError,))


TYPES = ["u1", "i1", "u2", "i8", "u8", "f2", "f4", "f8", "?", "c8", "U3", "S3", "O", "M8[D]"]


def array(data: st.DataObject) -> np.ndarray:
    n = data.draw(st.sampled_from([12] * 6 + [0, 1, 3, 7]))
    images = [(n, 8, 8)] * 4 + [(n, 8, 8, 3), (n, 3, 8, 8)] * 2
    others = [(n, 8, 8, 1), (n, 4, 8, 8), (n, 1, 8, 8), (8, 8, 3, n), (n, 64), (n,), ()]
    others += [(n, 8, 8, 5), (n, 0, 8), (n, 2, 2, 2, 2), (n, 4, 4), (n, 3, 3, 3)]
    shape = data.draw(st.sampled_from(images + others))
    dtype = data.draw(st.sampled_from(["u1"] * 9 + TYPES))
    scale = data.draw(
        st.sampled_from([1] * 4 + [255] * 6 + [0, 2, 256, 1000, -1, 1e30, np.nan, np.inf])
    )
    with np.errstate(all="ignore"):
        values = np.arange(int(np.prod(shape))).reshape(shape) % 7 / 6 * scale
        if dtype == "O":
            return np.full(shape, None, object)
        return (
            values.astype("i8" if np.isfinite(values).all() else "f8").astype(dtype)
            if dtype in ("M8[D]",)
            else values.astype(dtype)
        )


def labels(data: st.DataObject, n: int) -> np.ndarray:
    return np.array(
        [data.draw(st.sampled_from([0, 1, 2, -1, 2**40, -5, 7])) for _ in range(n)]
    ).astype(data.draw(st.sampled_from(["i8", "u1", "f4", "u8", "U5", "?"])))


@kind(600)
def arrays(data: st.DataObject, box: Box) -> str:
    kind_ = data.draw(st.sampled_from(["npz", "npy", "mat", "idx", "gz"]))
    a = array(data)
    path, n = Path(f"a.{kind_}"), a.shape[0] if a.ndim else 0
    names = data.draw(
        st.sampled_from([["x"], ["images"], ["x_train", "x_test"], ["a", "b"], ["x", ""]])
    )
    box.note(kind_, a.dtype, a.shape, names)
    match kind_:
        case "npz":
            known = {name: a for name in names if name}
            if data.draw(st.booleans()):
                known |= {data.draw(st.sampled_from(["y", "labels", "y_train"])): labels(data, n)}
            np.savez(path, **known)
        case "npy":
            np.save(path, a)
        case "mat":
            from scipy.io import savemat

            try:
                savemat(path, {name or "z": a for name in names})
            except (TypeError, ValueError, KeyError):
                savemat(path, {"x": np.zeros((3, 8, 8))})
        case _:
            import gzip

            dims = a.shape or (1,)
            head = bytes([0, 0, data.draw(st.sampled_from([8] * 6 + [9, 13, 0])), len(dims)])
            raw = head + b"".join(s.to_bytes(4, "big") for s in dims) + bytes(int(np.prod(dims)))
            path.write_bytes(gzip.compress(raw) if kind_ == "gz" else raw)
    if data.draw(st.integers(0, 3)) == 0:
        path.write_bytes(damage(data, path.read_bytes()))
        box.note(box.case, "damaged")
    options = data.draw(
        st.sampled_from(
            [{}] * 8 + [{"size": 8}, {"layout": "nhw"}, {"layout": "hwcn"}, {"key": "x"}, {"key": ""},
             {"labels": "y"}, {"grey": True}, {"fit": "pad", "size": (3, 5)}, {"labels": "none"}]
        )
    )  # fmt: skip
    box.note(box.case, options)
    return loaded(box, str(path), **options)


@kind(250)
def tables(data: st.DataObject, box: Box) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    n = data.draw(st.sampled_from([0, 1, 3, 9]))
    raw = [picture(data)[0] for _ in range(min(n, 3))] * 3
    cells: Any = data.draw(
        st.sampled_from(
            [raw[:n], [{"bytes": r, "path": None} for r in raw[:n]], ["/etc/passwd"] * n, [None] * n,
             [{"bytes": "/etc/passwd"}] * n, [{"path": "x"}] * n, [b""] * n, [1] * n]
        )
    )  # fmt: skip
    told: Any = data.draw(
        st.sampled_from(
            [None, [0] * n, [None] * n, ["a"] * n, [2**63 - 1] * n, [-1] * n, [0.5] * n, [[1]] * n,
             [True] * n, [b"x"] * n]
        )
    )  # fmt: skip
    columns = {data.draw(st.sampled_from(["image", "x", ""])): cells}
    if told is not None:
        columns[data.draw(st.sampled_from(["label", "y", "labels"]))] = told
    box.note(str(cells)[:60], str(told)[:60])
    parquet.write_table(pa.table(columns), "t.parquet")
    if data.draw(st.integers(0, 2)) == 0:
        Path("t.parquet").write_bytes(damage(data, Path("t.parquet").read_bytes()))
    return loaded(box, "t.parquet", skip_corrupt=data.draw(st.booleans()))


@kind(250)
def folders(data: st.DataObject, box: Box) -> str:
    folder = Path("folder")
    folder.mkdir()
    for k in range(data.draw(st.integers(0, 6))):
        part = data.draw(
            st.sampled_from(["", "train", "test", "a", "b", "train/a", ".hidden", "é", "\udcff"])
        )
        name = data.draw(
            st.sampled_from(
                ["1.png", "2.PNG", "x.jpg", "y", "z.txt", "\n.png", "a.idx", "p.parquet"]
            )
        )
        place = folder / part / f"{k}{name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        raw = picture(data)[0]
        place.write_bytes(damage(data, raw) if data.draw(st.integers(0, 4)) == 0 else raw)
    box.note(*sorted(str(p) for p in folder.rglob("*")))
    options = data.draw(
        st.sampled_from([{}, {"skip_corrupt": True}, {"size": 8}, {"labels": "none"}])
    )
    return loaded(box, "folder", **options)
