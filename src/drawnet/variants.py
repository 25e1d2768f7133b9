"""DRAW with one thing changed: what `drawnet ablate` compares.  A variant is a public function here.

Each takes the baseline's run and returns its own; the first line of its docstring says what is
changed, what follows what to expect.  Names that begin with `bug_` are mistakes that public ports
of DRAW make.  Some of these change the number that is reported: `drawnet ablate` shows what such a
port would claim beside the true bound.

Two known mistakes are no variants: on square images height and width swapped is only another
name for the windows, and samples that are reconstructions leave training as it is.
"""

from dataclasses import asdict, replace
from typing import Any

from drawnet.models.draw import DrawConfig
from drawnet.models.draw_variant import DrawVariantConfig
from drawnet.run import Run

Draws = Run[DrawConfig]


def _set(run: Draws, **settings: Any) -> Draws:
    return replace(run, model=replace(run.model, **settings))


def _switch(run: Draws, **switches: Any) -> Draws:
    return replace(run, model=DrawVariantConfig(**asdict(run.model) | switches))


def baseline(run: Draws) -> Draws:
    """The recipe as it is: what all others are compared with."""
    return run


# ---- attention ----------------------------------------------------------------------------------


def no_read(run: Draws) -> Draws:
    """No read attention: the encoder sees the whole image and its error (17).

    More weights and more arithmetic a step; better bounds at small budgets, for nothing must be
    found first.
    """
    return _set(run, read=0)


def no_write(run: Draws) -> Draws:
    """No write attention: the decoder adds to the whole canvas (18)."""
    return _set(run, write=0)


def no_attention(run: Draws) -> Draws:
    """Neither window, the paper's DRAW without attention: 87.40 nats against 80.97 there."""
    return _set(run, read=0, write=0)


def shared_window(run: Draws) -> Draws:
    """One window to write with and then to read through: many ports' mistake (one attention head).

    It can read only where it wrote last, with the γ that it wrote with.
    """
    return _switch(run, shared_window=True)


def no_gamma(run: Draws) -> Draws:
    """Windows without an intensity γ (27), (29): the patch must say it all, and nothing is amplified."""
    return _switch(run, intensity=False)


def ordinary_windows(run: Draws) -> Draws:
    """Windows that start as any linear map of h_dec does, not as `initialise_windows` has them."""
    return _switch(run, first_windows=False)


# ---- what is fed to what -------------------------------------------------------------------------


def no_error_image(run: Draws) -> Draws:
    """The encoder is not shown x̂ (3): it knows the canvas only by h_dec."""
    return _switch(run, error_image=False)


def no_feedback(run: Draws) -> Draws:
    """The encoder is not shown h_dec_t-1 (5): it knows the canvas only by x̂."""
    return _switch(run, feedback=False)


def zero_states(run: Draws) -> Draws:
    """Zero instead of learned initial states of both cells; the canvas is learned as before."""
    return _switch(run, learned_states=False)


def grey_canvas(run: Draws) -> Draws:
    """The canvas is learned from grey on, not from the mean training image on."""
    return _switch(run, canvas="grey")


def learned_prior(run: Draws) -> Draws:
    """p(z_t) told by h_dec_t-1 instead of N(0, I), as in convolutional DRAW."""
    return _set(run, prior="learned")


def rnn(run: Draws) -> Draws:
    """Plain tanh units instead of LSTM: a third of the weights, and nothing that keeps a memory."""
    return _switch(run, cell="rnn")


def gru(run: Draws) -> Draws:
    """Gated recurrent units instead of LSTM: three quarters of the weights."""
    return _switch(run, cell="gru")


# ---- sizes --------------------------------------------------------------------------------------


def t1(run: Draws) -> Draws:
    """T = 1: one glimpse, one write; without attention it would be a variational auto-encoder."""
    return _set(run, steps=1)


def t2(run: Draws) -> Draws:
    """T = 2."""
    return _set(run, steps=2)


def t4(run: Draws) -> Draws:
    """T = 4."""
    return _set(run, steps=4)


def t8(run: Draws) -> Draws:
    """T = 8."""
    return _set(run, steps=8)


def t16(run: Draws) -> Draws:
    """T = 16."""
    return _set(run, steps=16)


def t32(run: Draws) -> Draws:
    """T = 32."""
    return _set(run, steps=32)


def t64(run: Draws) -> Draws:
    """T = 64, the paper's for MNIST."""
    return _set(run, steps=64)


def z10(run: Draws) -> Draws:
    """10 latents a step."""
    return _set(run, latents=10)


def z50(run: Draws) -> Draws:
    """50 latents a step."""
    return _set(run, latents=50)


def z200(run: Draws) -> Draws:
    """200 latents a step."""
    return _set(run, latents=200)


def read5(run: Draws) -> Draws:
    """A read window of 5 × 5."""
    return _set(run, read=5)


def read12(run: Draws) -> Draws:
    """A read window of 12 × 12."""
    return _set(run, read=12)


def write2(run: Draws) -> Draws:
    """A write window of 2 × 2."""
    return _set(run, write=2)


def write12(run: Draws) -> Draws:
    """A write window of 12 × 12."""
    return _set(run, write=12)


# ---- the bug zoo --------------------------------------------------------------------------------


def bug_sigma(run: Draws) -> Draws:
    """exp of the raw output is taken for a window's σ, not σ² (21): a reparametrisation.

    It starts from the same σ here; the gradient doubles.
    """
    return _switch(run, window="sigma")


def bug_from_zero(run: Draws) -> Draws:
    """Pixels and filters counted from 0 in formulas that count from 1: off by a stride and a pixel."""
    return _switch(run, window="from_zero")


def bug_unbounded(run: Draws) -> Draws:
    """log γ without a limit: a gradient may overflow, most of all in low precision."""
    return _switch(run, window="unbounded")


def bug_zero_canvas(run: Draws) -> Draws:
    """c_0 is zero for good: the first writes go to blackening the background."""
    return _switch(run, canvas="fixed")
