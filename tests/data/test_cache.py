"""Decoded images kept on disk: the same as decoding, whole or not there, shared."""

import os
import warnings

import numpy as np
import pytest
import torch

from drawnet.data import Images
from drawnet.data.io import cache
from drawnet.data.io.cache import cached


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A file and a cache folder of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "source.bin").write_bytes(b"abc")
    return tmp_path / "source.bin"


class Decoder:
    """Counts how often it decodes; the array is not contiguous, as MATLAB's are not."""

    def __init__(self, labelled=True, seed=0):
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 3, 2, 7), np.uint8)
        self.images = Images(pixels.transpose(3, 2, 0, 1), np.arange(7) if labelled else None)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.images


@pytest.mark.parametrize("labelled", [True, False])
def test_the_second_time_nothing_is_decoded(source, labelled):
    decode = Decoder(labelled)
    for _ in range(3):
        images = cached([source], decode)
        assert (images.pixels == decode.images.pixels).all() and images.pixels.flags.c_contiguous
        assert (images.labels is not None) == labelled
        assert not labelled or images.labels.tolist() == list(range(7))
    assert decode.calls == 1
    names = sorted(p.name for p in cache.folder().iterdir())
    assert len(names) == 3 and all(n.startswith("source-") and n.endswith(".npy") for n in names)


def test_writes_stay_with_the_writer_and_torch_does_not_warn(source):
    decode = Decoder()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = torch.from_numpy(cached([source], decode).pixels[1:])
    mine.zero_()
    assert (cached([source], decode).pixels == decode.images.pixels).all() and decode.calls == 1


def test_large_arrays_are_written_in_pieces(source, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 1, 1024, 1024), np.uint8)
    assert (cached([source], lambda: Images(pixels)).pixels == pixels).all()


@pytest.mark.parametrize("change", ["content", "time", "path", "more"])
def test_another_source_is_decoded_anew(source, change, tmp_path):
    cached([source], Decoder())
    sources = [source]
    if change == "content":
        source.write_bytes(b"abcd")
    if change == "time":
        os.utime(source, ns=(0, 1))
    if change == "path":
        (tmp_path / "other").mkdir()
        sources = [source.rename(tmp_path / "other" / source.name)]
    if change == "more":
        sources = [source, source]
    other = Decoder(seed=1)
    assert (cached(sources, other).pixels == other.images.pixels).all() and other.calls == 1


FAULTS = {
    "pixels": ("cut", "empty", "head", "flipped", "gone", "another array"),
    "labels": ("cut", "flipped", "gone", "another array", "floats"),
    "sums": ("cut", "flipped", "gone", "another array"),
}


@pytest.mark.parametrize(
    ("part", "fault"), [(p, f) for p, faults in FAULTS.items() for f in faults]
)
def test_what_is_damaged_is_decoded_anew(source, part, fault):
    decode = Decoder()
    cached([source], decode)
    ends = {"labels": "-labels.npy", "sums": "-sums.npy"}
    paths = {name: next(cache.folder().glob(f"*{end}")) for name, end in ends.items()}
    (paths["pixels"],) = set(cache.folder().iterdir()) - set(paths.values())
    path, raw = paths[part], paths[part].read_bytes()
    if fault == "gone":
        path.unlink()
    elif fault == "another array":
        np.save(path, np.zeros((7, 3), np.float32))
    elif fault == "floats":
        np.save(path, np.arange(7.0))
    else:
        flipped = raw[:-1] + bytes([raw[-1] ^ 1])
        spoilt = {"cut": raw[:-1], "empty": b"", "head": b"\x93NUMPX" + raw[6:], "flipped": flipped}
        path.write_bytes(spoilt[fault])
    for _ in range(2):
        images = cached([source], decode)
        assert (images.pixels == decode.images.pixels).all() and decode.calls == 2
        assert images.labels.tolist() == list(range(7)) and images.labels.dtype == np.int64


def test_a_pipe_in_the_cache_is_not_waited_for(source):
    decode = Decoder()
    cached([source], decode)
    for path in list(cache.folder().iterdir()):
        path.unlink()
        os.mkfifo(path)
    with pytest.warns(UserWarning, match="not cached: .* is a device, pipe or socket"):
        images = cached([source], decode)
    assert (images.pixels == decode.images.pixels).all() and decode.calls == 2


def test_a_folder_that_cannot_be_written_is_reported(source, tmp_path, monkeypatch):
    (tmp_path / "cache").write_bytes(b"a file in the place of the folder")
    decode = Decoder()
    with pytest.warns(UserWarning, match="decoded images are not cached: .*cache is not one"):
        images = cached([source], decode)
    assert (images.pixels == decode.images.pixels).all() and images.pixels.flags.c_contiguous


def test_nothing_is_left_of_a_write_that_fails(source, monkeypatch):
    def full(file, array):
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_save", full)
    with pytest.warns(UserWarning, match="not cached: .*No space left"):
        cached([source], Decoder())
    assert list(cache.folder().iterdir()) == []
