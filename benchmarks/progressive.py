"""Error of the first t of T steps over their ideal bytes, beside JPEG's and WebP's over real ones.

    python benchmarks/progressive.py cifar10_conv mnist --data-dir FOLDER --json FILE --figure FILE

The first images of the model's own test set.  The model's rate is Σ_s≤t KL(q_s ‖ p_s) by one draw of z:
ideal, no file has it.  Bytes of JPEG and WebP are those of files, in three ways:

sheet     one file of all images, 50 in a row, each filled up to whole blocks of 16 pixels by its edge;
          code tables made for it (JPEG); the whole file divided by the number of images
files     a file for each image, whole
payload   the same files less their fixed header, as if the receiver knew size, quality and tables

JPEG with 4:2:0 and 4:4:4, by Pillow; of its settings and WebP's only those count that no other of them
betters in both bytes and error.  PSNR is that of the mean squared error over all images.
"""

import argparse
import io
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from speed import machine

from drawnet.data.pipeline import View
from drawnet.drawing import figures
from drawnet.drawing.progressive import FORMATS, coded
from drawnet.evaluation.progressive import curve, point, progressive
from drawnet.training import checkpoint
from drawnet.training.provenance import build_metadata

ROW, BLOCK = 50, 16
SETTINGS = {"JPEG": FORMATS["JPEG"][::4] + FORMATS["JPEG"][1::4], "WebP": FORMATS["WebP"][::2]}
WAYS = ("sheet", "payload", "files")


def entry(p):
    """Return a point as JSON values with standard errors, six digits of each."""
    values = {
        "bytes": p.bits.mean / 8, "bytes_stderr": p.bits.stderr / 8, "mse": p.mse.mean,
        "mse_stderr": p.mse.stderr, "psnr": p.psnr.mean, "psnr_stderr": p.psnr.stderr,
    }  # fmt: skip
    return {name: float(f"{value:.6g}") for name, value in values.items()}


def on_one_sheet(x, kind, options):
    """Return bytes and images (n, C, H, W) of one file that holds all of x."""
    n, c, h, w = x.shape
    padded = F.pad(x, (0, -w % BLOCK, 0, -h % BLOCK), mode="replicate")
    rows, (height, width) = -(-n // ROW), padded.shape[2:]
    picture = figures.grid(padded, columns=ROW, scale=1, gap=0)
    buffer = io.BytesIO()
    picture.save(
        buffer, format=kind.upper(), **options, **({"optimize": True} if kind == "JPEG" else {})
    )
    with Image.open(buffer) as back:
        values = np.array(back.convert(picture.mode), np.float32) / 255
    tiles = torch.from_numpy(values).view(rows, height, ROW, width, c).permute(0, 2, 4, 1, 3)
    return len(buffer.getvalue()), tiles.reshape(-1, c, height, width)[:n, :, :h, :w]


def others(x, kind):
    """Return way -> points of a format, of those settings that no other betters."""
    found = {way: [] for way in WAYS}
    pictures = figures.singles(x)
    for options in SETTINGS[kind]:
        size, images = on_one_sheet(x, kind, options)
        found["sheet"].append(point(x, torch.full((len(x),), 8 * size / len(x)), images))
        each = [coded(picture, kind, **options) for picture in pictures]
        images = torch.stack([k.image for k in each])
        whole, header = (
            torch.tensor([8.0 * getattr(k, name) for k in each]) for name in ("size", "header")
        )
        found["files"].append(point(x, whole, images))
        found["payload"].append(point(x, whole - header, images))
    return {way: [entry(p) for p in best(points)] for way, points in found.items()}


def best(points):
    """Return the points that have less error than all of no more bytes, by bytes."""
    least, kept = math.inf, []
    for p in sorted(points, key=lambda p: (p.bits.mean, p.mse.mean)):
        if p.mse.mean < least:
            least = p.mse.mean
            kept.append(p)
    return kept


def measure(name, images, data_dir, seed):
    saved = checkpoint.load_model(Path(name))
    data = saved.run.data.load(data_dir)
    view = View(data, "test", "no", slice(0, images))
    _, x, _ = next(view.batches(saved.network, images))
    x = x.cpu()
    found = {
        "model": name, "data": data.name, "images": len(x), "seed": seed, "machine": machine(),
        "made": asdict(build_metadata()), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    for way, temperature in (("mean", 0.0), ("sampled", 1.0)):
        known = progressive(saved.network, x, seed=seed, temperature=temperature)
        found[way] = [entry(p) for p in curve(x, known)]
    return found | {kind: others(x, kind) for kind in SETTINGS}


def at(points, size):
    """Interpolate PSNR at so many bytes; None below the fewest."""
    sizes, psnr = ([p[key] for p in points] for key in ("bytes", "psnr"))
    return float(np.interp(size, sizes, psnr)) if sizes[0] <= size <= sizes[-1] else None


def report(found):
    print(
        f"\n{found['model']}: {found['images']:,} images of {found['data']}, seed {found['seed']}"
    )
    print(f"  {found['machine']}")
    columns = [(kind, way) for kind in SETTINGS for way in WAYS]
    heads = "".join(f"{kind + ' ' + way:>14}" for kind, way in columns)
    print(f"  PSNR, dB, at equal bytes\n  steps   ideal bytes          model       sampled{heads}")
    steps = len(found["mean"]) - 1
    for t in sorted({round(k * steps / min(steps, 8)) for k in range(min(steps, 8) + 1)}):
        p, drawn = found["mean"][t], found["sampled"][t]
        row = [at(found[kind][way], p["bytes"]) for kind, way in columns]
        texts = "".join(f"{'—' if k is None else format(k, '.2f'):>14}" for k in row)
        rate = f"{p['bytes']:8.2f} ± {p['bytes_stderr']:.2f}"
        print(
            f"  {t:5} {rate:>15} {p['psnr']:8.2f} ± {p['psnr_stderr']:.2f} {drawn['psnr']:10.2f}{texts}"
        )
    for kind, way in columns:
        first = found[kind][way][0]
        print(
            f"  fewest: {kind} {way} {first['bytes']:.1f} bytes, {first['psnr']:.2f} dB", flush=True
        )


CURVES = {
    ("mean",): ("the model, ideal; later steps at the prior's mean", "#c1272d", "o-"),
    ("sampled",): ("the model, ideal; later steps drawn from the prior", "#c1272d", "o:"),
    ("JPEG", "sheet"): ("JPEG, one file of all", "#0072b2", "-"),
    ("JPEG", "payload"): ("JPEG, without header", "#0072b2", "--"),
    ("JPEG", "files"): ("JPEG, whole files", "#0072b2", ":"),
    ("WebP", "sheet"): ("WebP, one file of all", "#444444", "-"),
    ("WebP", "payload"): ("WebP, without header", "#444444", "--"),
    ("WebP", "files"): ("WebP, whole files", "#444444", ":"),
}


def draw(records, path):
    """Draw all curves: a panel for each model."""
    from matplotlib.figure import Figure

    figure = Figure((5.5 * len(records), 4.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(records)))
    for panel, found in zip(panels, records, strict=True):
        for (name, *way), (label, colour, style) in CURVES.items():
            points = found[name][way[0]] if way else found[name]
            shown = [p for p in points if p["bytes"] > 0.05]  # the axis is logarithmic
            size, psnr, error = ([p[k] for p in shown] for k in ("bytes", "psnr", "psnr_stderr"))
            errors = None if way else error
            panel.errorbar(size, psnr, errors, fmt=style, color=colour, ms=3, label=label)
        top = found["mean"][-1]["psnr"] + 6
        title = f"{found['model']}: {found['images']:,} images of {found['data'].split(',')[0]}"
        panel.set(xscale="log", xlabel="bytes an image", ylabel="PSNR, dB", title=title)
        panel.set_ylim(top=top)
        panel.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    records = [measure(name, args.images, args.data_dir, args.seed) for name in args.models]
    for found in records:
        report(found)
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n")
    if args.figure:
        draw(records, args.figure)


if __name__ == "__main__":
    main()
