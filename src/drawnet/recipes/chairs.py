"""Chairs from given parameters."""

from drawnet.models.chairs import ChairsConfig
from drawnet.run import Data, Run


def chairs() -> Run[ChairsConfig]:
    """The generator of chairs, every other azimuth held out, on 320 procedural chairs of 64×64.

    `drawnet train chairs`; with `--data.options which renders` on ModelNet10's, where
    they are at hand.  Then `python benchmarks/chairs.py runs/chairs`.  Not trained to its end yet.
    """
    return Run(
        "chairs",
        ChairsConfig(),
        Data("chair_views"),
        examples=1_000_000,
        batch=64,
        lr=5e-4,
    )
