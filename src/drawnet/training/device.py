"""Where models run: on the CPU, or on an accelerator that torch finds here."""

import torch

from drawnet.errors import UserError

Device = torch.device | str
CPU = torch.device("cpu")


def available() -> list[torch.device]:
    """Return the devices here: the CPU, then the accelerators."""
    if not torch.accelerator.is_available():
        return [CPU]
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    return [CPU, *(torch.device(kind.type, k) for k in range(torch.accelerator.device_count()))]


def choose(asked: Device) -> torch.device:
    """Return the device of a name; 'auto' is the first accelerator, or the CPU if there is none.

    A kind without a number is its first device.  UserError, naming those here, for any other.
    """
    there = available()
    if asked == "auto":
        return there[:2][-1]
    try:
        found = torch.device(asked)
    except RuntimeError:  # not a device's name
        found = torch.device("meta")
    for device in there:
        if (found.type, found.index or 0) == (device.type, device.index or 0):
            return device
    raise UserError(f"no device {str(asked)!r} is here; there are: {', '.join(map(str, there))}")


def product(device: torch.device) -> str:
    """Return a device's kind and, where its library knows it, the name of the product."""
    named = getattr(torch.get_device_module(device.type), "get_device_name", None)
    return f"{device.type}: {named(device)}" if named else device.type
