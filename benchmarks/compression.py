"""Bytes of test sets: bits back by a bundled model beside PNG, WebP, JPEG XL, gzip and bz2.

    python benchmarks/compression.py mnist --data-dir FOLDER --json FILE
    python benchmarks/compression.py omniglot cifar10_conv --images 1000

The first images of the model's own test set are compressed, decompressed in a second process with
another number of threads, and compared.  The others get the same images: one sheet, 100 in a row
(PNG, WebP, JPEG XL; binary ones as 1 bit where the format has it), or the bare values (gzip, bz2, the
smaller of bytes and packed bits).  The bound is the model's own, by one draw of z for each image.
Images a second are those of a processor second, which other programs on the machine do not change.
"""

import argparse
import bz2
import gzip
import io
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from speed import machine

from drawnet.compression import files
from drawnet.data.pipeline import View
from drawnet.evaluation import likelihood
from drawnet.training import checkpoint
from drawnet.training.provenance import build_metadata

ROW = 100


def sheet(pixels, levels):
    """Return images (n, C, H, W) as one picture, ROW in a row."""
    n, c, h, w = pixels.shape
    padded = np.zeros((-(-n // ROW) * ROW, c, h, w), np.uint8)
    padded[:n] = pixels * (255 // (levels - 1))
    tiles = padded.reshape(-1, ROW, c, h, w).transpose(0, 3, 1, 4, 2).reshape(-1, ROW * w, c)
    return Image.fromarray(tiles[..., 0] if c == 1 else tiles)


def saved(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return len(buffer.getvalue())


def others(pixels, levels):
    """Return name -> bytes of the same images in other formats."""
    picture = sheet(pixels, levels)
    bits = np.packbits(pixels.reshape(len(pixels), -1), 1).tobytes()
    bare = [pixels.tobytes()] + ([bits] if levels == 2 else [])
    found = {
        "PNG": saved(picture.convert("1") if levels == 2 else picture, format="PNG", optimize=True),
        "WebP": saved(picture, format="WEBP", lossless=True, quality=100, method=6),
        "gzip": min(len(gzip.compress(text, 9)) for text in bare),
        "bz2": min(len(bz2.compress(text)) for text in bare),
    }
    try:
        import pillow_jxl  # noqa: F401
    except ImportError:
        print("JPEG XL is left out: pip install pillow-jxl-plugin")
    else:
        found["JPEG XL"] = saved(picture, format="JXL", lossless=True, effort=9)
    return found


def children():
    """Return the processor seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(name, pixels):
    """Compress, decompress elsewhere, compare: what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        file, back = Path(folder, "images.draw"), Path(folder, "back.npz")
        coder, start = files.load(Path(name)), time.process_time()
        made = files.compress(coder, pixels)
        encoding = time.process_time() - start
        file.write_bytes(made.data)
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads() % 2 + 1)}
        command = [sys.executable, "-m", "drawnet", "decompress", str(file), "-o", str(back)]
        start = children()
        subprocess.run(command, check=True, env=os.environ | threads, stdout=subprocess.DEVNULL)
        decoding = children() - start
        assert (np.load(back)["images"] == pixels).all(), "an image did not come back"
    n = len(pixels) - made.packed
    return {
        "bytes": len(made.data),
        "packed": made.packed,
        "net_nats": made.model_bits * math.log(2) / n,
        "encoded_a_second": len(pixels) / encoding,
        "decoded_a_second": len(pixels) / decoding,
    }


def measure(name, images, data_dir):
    saved_model = checkpoint.load_model(Path(name))
    data = saved_model.run.data.load(data_dir)
    part = slice(0, images)
    pixels = np.ascontiguousarray(data.splits["test"].pixels[part])
    bound = likelihood.evaluate(saved_model.network, View(data, "test", "no", part))
    found = {
        "model": name, "data": data.name, "images": len(pixels), "shape": pixels.shape[1:],
        "machine": machine(), "made": asdict(build_metadata()), "date": time.strftime("%Y-%m-%d"),
        "bound_nats": bound.elbo_nats, "others": others(pixels, data.levels),
    }  # fmt: skip
    return found | {"ours": ours(name, pixels)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    records = []
    for name in args.models:
        records.append(measure(name, args.images, args.data_dir))
        report(records[-1])
        if args.json:
            args.json.write_text(json.dumps(records, indent=1) + "\n")


def report(found):
    values = found["images"] * math.prod(found["shape"])
    print(f"\n{found['model']}: {found['images']} images of {found['data']}, {found['machine']}")
    ours = found["ours"]
    net, bound = ours["net_nats"], found["bound_nats"]
    print(f"  bound {bound:.2f} nats an image, net {net:.2f} ({100 * (net / bound - 1):+.1f} %)")
    for way in ("encoded", "decoded"):
        print(f"  {ours[f'{way}_a_second']:.0f} images {way} in a processor second")
    sizes = {f"drawnet ({ours['packed']} by bz2)": ours["bytes"], **found["others"]}
    for name, size in sizes.items():
        print(f"  {name:<24}{size:>12,} bytes  {8 * size / values:.4f} bits a value", flush=True)


if __name__ == "__main__":
    main()
