"""Whether PyTorch only records or transforms what runs, so that values are not to be looked at."""

import torch
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch.autograd import forward_ad


def traced(modes: int = 0) -> bool:
    """Whether a tracer or a transformation is at work: none of them sees into a kernel.

    That is `torch.compile`, `torch.export`, `torch.onnx.export`, `torch.jit.trace`, a transformation
    of `torch.func` (vmap, jacrev, …), forward-mode differentiation, or a dispatch mode as of
    `make_fx`.  modes: how many dispatch modes are the caller's own.
    """
    return (
        torch.compiler.is_compiling()  # first: a compiler takes it for True and reads no further
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > modes
        or _len_torch_dispatch_stack_pre_dispatch() > 0
        or forward_ad._current_level >= 0
    )
