"""The one exception that users see, and what most often raises it."""

from typing import Any


class UserError(Exception):
    """Something the user can mend: one line saying what is wrong, where, and what to do.

    The command line prints the line and exits with status 2; a library user may catch it.
    """


def at_least(config: Any, low: int, *names: str) -> None:
    """UserError if one of these settings of a model is less than `low`."""
    for name in names:
        if (value := getattr(config, name)) < low:
            raise UserError(f"--model.{name} must be at least {low}, not {value}")
