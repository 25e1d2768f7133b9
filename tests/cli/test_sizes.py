"""Sizes in one word: a side, or height and width."""

import json
from dataclasses import dataclass, field, replace

import pytest

from drawnet.cli._shared import parse
from drawnet.data.config import Data
from drawnet.errors import UserError
from drawnet.training import config


@dataclass(frozen=True)
class Command:
    data: Data = field(default_factory=Data)


@pytest.mark.parametrize(
    ("word", "size"), [("28", 28), ("20x40", (20, 40)), ("7X5", (7, 5)), ("0", 0)]
)
def test_a_size_is_one_word(word, size):
    assert parse(Command, "train", ["--data.size", word]).data.size == size


@pytest.mark.parametrize("word", ["abc", "x", "20x", "1x2x3", "2.5", "1" * 30])
def test_other_words_are_no_sizes(word):
    with pytest.raises(UserError, match=r"is neither a side \(28\) nor height x width \(20x40\)"):
        parse(Command, "train", ["--data.size", word])


def test_a_size_comes_back_from_a_file(tiny_run):
    run = replace(tiny_run, data=Data("x", size=(20, 40)))
    assert config.from_json(json.loads(json.dumps(config.to_json(run)))) == run
