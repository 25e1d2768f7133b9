"""DRAW in plain PyTorch with the weights of the package: the yardstick and the test oracle.

The model is that of examples/draw_minimal.py, as a textbook would write it: nn.LSTMCell, nn.Linear and
batched products, step by step, gradients by autograd.
"""

import importlib.util
from pathlib import Path

import torch

_PATH = Path(__file__).parents[1] / "examples" / "draw_minimal.py"
_SPEC = importlib.util.spec_from_file_location("draw_minimal", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
DRAW = _MODULE.DRAW


@torch.no_grad()
def from_drawnet(model):
    """The textbook network with the weights of a drawnet.models.draw.Draw, in their type."""
    k = model.config
    if k.likelihood != "bernoulli" or k.prior != "standard" or k.classes:
        raise ValueError(f"the textbook has binary pixels, N(0, I) and no labels, not {k}")
    book = DRAW(model.shape, k.steps, k.read, k.write, k.units, k.latents)
    book.to(model.c.dtype).load_state_dict(convert(model.state_dict(), book))
    return book


def convert(values, book):
    """Tensors by the names of drawnet's Draw -> by those of `book`; weights or their gradients.

    drawnet's layers have one matrix over all their inputs: those of an LSTM and its own output
    side by side, and the heads of h_dec (patch, write window, read window) one above the other.
    nn.LSTMCell adds two biases: the first is drawnet's, the second is zero.
    """
    units, patch = book.units, book.w.out_features
    out = {"c0": values["c"]}
    out["states0"] = torch.stack([values[n] for n in ("h_enc", "s_enc", "h_dec", "s_dec")])
    for cell in ("encoder", "decoder"):
        weight, bias = values[f"{cell}.weight"], values[f"{cell}.bias"]
        out[f"{cell}.weight_ih"], out[f"{cell}.weight_hh"] = weight[:, :-units], weight[:, -units:]
        out[f"{cell}.bias_ih"], out[f"{cell}.bias_hh"] = bias, torch.zeros_like(bias)
    heads = {
        "w": patch,
        "write_window": 5 * bool(book.N_write),
        "read_window": 5 * bool(book.N_read),
    }
    for kind in ("weight", "bias"):
        out[f"q.{kind}"] = values[f"q.{kind}"]
        parts = values[f"heads.{kind}"].split(list(heads.values()))
        out |= {f"{name}.{kind}": p for name, p in zip(heads, parts, strict=True) if len(p)}
    return out
