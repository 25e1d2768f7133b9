"""Faces, grey: FER+ (48x48, many people) or Frey's (28x20, one man in a video).

FER+ replaces the Toronto Face Dataset, which is not public and has the same format.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from drawnet.data import Dataset, Images, Info
from drawnet.data.io.cache import cached
from drawnet.data.io.files import array, counted, find, find_file, read_mat, read_npz, read_parquet
from drawnet.data.io.pictures import stacked
from drawnet.errors import UserError

_VOTES = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
    "unknown", "NF",
)  # fmt: skip
_FERPLUS = {"train": 18_000, "valid": 3_579, "test": 3_573}
_FREY, _FREY_HELD = 1_965, 200
_FREY_ADDRESS = "https://cs.nyu.edu/~roweis/data/frey_rawface.mat"
_FERPLUS_ADDRESS = "https://github.com/microsoft/FERPlus"

INFO = Info(
    name="faces",
    description="faces: FER+, grey 48x48 (the first 18,000 of its 28,558 for training), or, with "
    "which='frey', Frey's video of one face, grey 28x20",
    licence="none stated: images from the web, for research (FER+'s votes: MIT)",
    source=f"FER+: Barsoum et al. 2016, {_FERPLUS_ADDRESS}, images of FER2013 (Goodfellow et al. "
    f"2013); Frey faces: Frey and Roweis, {_FREY_ADDRESS}",
)


def load(data_dir: Path, which: Literal["ferplus", "frey"] = "ferplus") -> Dataset:
    """Read faces of 256 levels.

    ferplus  18,000 / 3,579 / 3,573 images (1, 48, 48), FER+'s own splits, train being a part; no
             image is in two. Labels 0..9: the majority vote of ten people (neutral, happiness,
             surprise, sadness, anger, disgust, fear, contempt, unknown, no face), the first of
             equals. From parquet files with columns `image` and `votes_…`.
    frey     1,565 / 200 / 200 images (1, 28, 20) without labels: the beginning, what follows, and
             the end of the video. Neighbouring frames are nearly the same, so splits are
             contiguous. From frey_faces.npz or the published frey_rawface.mat.
    """
    if which == "frey":
        return _frey(data_dir)
    splits = {split: _ferplus(data_dir, split) for split in _FERPLUS}
    return INFO.dataset(
        256,
        splits,
        name="faces, FER+, the first 18,000 of 28,558 for training",
        description="faces of many people, grey 48x48, FER+'s own splits; of its 28,558 for "
        "training the first 18,000",
    )


def _ferplus(data_dir: Path, split: str) -> Images:
    path = find(data_dir, "faces", f"faces_ferplus_{split}.parquet", address=_FERPLUS_ADDRESS)
    return cached([path], lambda: _decoded(path, _FERPLUS[split]))


def _decoded(path: Path, count: int) -> Images:
    columns = read_parquet(path, "image", *(f"votes_{kind}" for kind in _VOTES))
    votes = np.array([columns[f"votes_{kind}"] for kind in _VOTES])
    counted(votes.shape[1], count, "faces", path)
    if votes.dtype.kind != "i" or votes.min() < 0 or not votes.sum(0).all():
        raise UserError(f"{path} has a face without votes: get a new copy")
    return Images(stacked(columns["image"], (1, 48, 48), path), votes.argmax(0))


def _frey(data_dir: Path) -> Dataset:
    if path := find_file(data_dir, "faces", "frey_faces.npz"):
        frames = array(read_npz(path), "images", (-1, 28, 20), path)
    else:
        path = find(data_dir, "faces", "frey_rawface.mat", address=_FREY_ADDRESS)
        frames = array(read_mat(path, "ff"), "ff", (560, -1), path).T.reshape(-1, 28, 20)
    counted(len(frames), _FREY, "frames", path)
    frames, end = Images(np.ascontiguousarray(frames[:, None])), _FREY - 2 * _FREY_HELD
    splits = {
        "train": frames[:end],
        "valid": frames[end:-_FREY_HELD],
        "test": frames[-_FREY_HELD:],
    }
    return INFO.dataset(
        256, splits, name="faces, Frey", description="a video of one face, grey 28x20"
    )
