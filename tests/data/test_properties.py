"""Properties of the way from stored images to a model's inputs, for all sizes and values."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drawnet.data import Dataset, Images, subsample_indices
from drawnet.data.pipeline import View, crop, one_hot, to_float

always = settings(deadline=None, max_examples=50, derandomize=True, database=None)
SIDES = st.integers(1, 7)
POSITIONS = st.floats(0, 1, exclude_max=True, width=32)


def numbered(*shape):
    """Images whose pixels are all different: each says where it lay."""
    return torch.arange(np.prod(shape)).view(shape).double()


@always
@given(st.lists(st.tuples(POSITIONS, POSITIONS), min_size=1), *[SIDES] * 4)
def test_a_crop_is_a_part_of_its_own_image_where_it_was_asked_for(where, h, w, down, right):
    height, width = h + down, w + right
    x = numbered(len(where), 2, height, width)
    part = crop(x, (2, h, w), torch.tensor(where))
    assert part.shape == (len(where), 2, h, w)
    for image, cut, position in zip(x, part, where, strict=True):
        first = int(cut[0, 0, 0] - image[0, 0, 0])
        corner = divmod(first, width)
        top, left = corner
        assert torch.equal(cut, image[:, top : top + h, left : left + w])
        for at, share, spare in zip(corner, position, (down, right), strict=True):
            assert at <= spare and at - 1e-5 <= share * (spare + 1) <= at + 1 + 1e-5


@always
@given(SIDES, SIDES, st.integers(0, 7), st.integers(0, 7))
def test_without_a_position_a_crop_is_the_centre(h, w, down, right):
    x = numbered(2, 3, h + down, w + right)
    part = crop(x, (3, h, w))
    top, left = down // 2, right // 2
    assert torch.equal(part, x[..., top : top + h, left : left + w])


@always
@given(st.integers(1, 9), st.lists(st.integers(-2, 10)))
def test_one_hot_has_its_one_at_the_label(classes, labels):
    labels = torch.tensor(labels, dtype=torch.int64)
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        with pytest.raises(ValueError, match="labels are from 0"):
            one_hot(labels, classes)
        return
    y = one_hot(labels, classes)
    assert y.shape == (len(labels), classes) and y.dtype == torch.float32
    assert torch.equal(y.sum(1), torch.ones(len(labels)))
    assert y[range(len(labels)), labels].all()
    assert one_hot(labels, 0).shape == (len(labels), 0)


@always
@given(st.integers(1, 2000), st.one_of(st.none(), st.integers(1, 2500)))
def test_a_subsample_is_spread_as_evenly_as_can_be(n, count):
    indices = np.arange(n)[subsample_indices(n, count)]
    assert len(indices) == min(n, count or n)
    gaps = np.diff(indices, append=n)  # from the last to the end of the set, too
    assert indices[0] == 0 and gaps.min() >= 1 and np.ptp(gaps) <= 1


@always
@given(
    st.sampled_from([(2, "no"), (256, "no"), (256, "static")]),
    st.integers(1, 12),
    st.integers(1, 13),
    st.integers(0, 2**32 - 1),
)
def test_an_images_values_and_label_do_not_depend_on_the_batches(kind, n, size, seed):
    (levels, binarise), rng = kind, np.random.default_rng(seed)
    images = Images(rng.integers(0, levels, (n, 2, 3, 1), np.uint8), rng.integers(0, 4, n))
    splits = dict.fromkeys(("train", "valid", "test"), images)
    view = View(Dataset("random", "images", levels, "none", "here", splits), "test", binarise)
    model = SimpleNamespace(
        shape=(2, 3, 1), classes=4, encode_labels=one_hot, device=torch.device("cpu")
    )
    (numbers, whole, y), *rest = view.batches(model, n)
    assert numbers == range(n) and not rest
    parts = list(view.batches(model, size))
    assert [k for numbers, *_ in parts for k in numbers] == list(range(n))
    assert torch.equal(torch.cat([x for _, x, _ in parts]), whole)
    assert torch.equal(torch.cat([y for *_, y in parts]), y)
    assert y.argmax(1).tolist() == images.labels.tolist()
    if binarise == "no":
        assert np.array_equal((whole * (levels - 1)).round(), images.pixels)
    else:
        assert ((whole == 0) | (whole == 1)).all()
        black, white = (torch.from_numpy(images.pixels == level) for level in (0, levels - 1))
        assert not whole[black].any() and whole[white].all()


@always
@given(POSITIONS, st.integers(0, 255))
def test_binarisation_is_monotone_in_intensity(uniform, level):
    noise, pixels = torch.full((256,), uniform), torch.arange(256, dtype=torch.uint8)
    bits = to_float(pixels, 256, noise)
    assert (bits.diff() >= 0).all() and bits[0] == 0 and bits[255] == 1
    assert bits[level] == (uniform < to_float(pixels, 256, None)[level])
