"""DRAW with one thing changed: what `drawnet ablate` compares.  A variant is a public function here.

Each takes the baseline's run and returns its own; the first line of its docstring states the change,
the rest what to expect.  Names that begin with `bug_` are mistakes in public ports of DRAW.  Some of
these change the reported number: `drawnet ablate` shows what such a port would claim next to the
true bound.

Known mistakes that are not variants: height and width swapped (no effect on square images), samples
that are reconstructions (no effect on training), and a cross-entropy on grey values (no bound).
"""

from dataclasses import asdict, replace
from typing import Any

from drawnet.models.draw import DrawConfig
from drawnet.models.draw_variant import DrawVariantConfig
from drawnet.training.config import Run

Drawing = Run[DrawConfig]


def _set(run: Drawing, **settings: Any) -> Drawing:
    return replace(run, model=replace(run.model, **settings))


def _switch(run: Drawing, **switches: Any) -> Drawing:
    return replace(run, model=DrawVariantConfig(**asdict(run.model) | switches))


def baseline(run: Drawing) -> Drawing:
    """The recipe unchanged: the reference for all others."""
    return run


# ---- attention ----------------------------------------------------------------------------------


def no_read(run: Drawing) -> Drawing:
    """No read attention: the encoder sees the whole image and its error image (17).

    More weights and more arithmetic per step, for a bound that is no better (docs/experiments.md).
    """
    return _set(run, read=0)


def no_write(run: Drawing) -> Drawing:
    """No write attention: the decoder adds to the whole canvas (18)."""
    return _set(run, write=0)


def no_attention(run: Drawing) -> Drawing:
    """No windows, the paper's DRAW without attention: 87.40 nats against 80.97 there.

    After five epochs it is ahead here, and its seeds vary less (docs/experiments.md).
    """
    return _set(run, read=0, write=0)


def shared_window(run: Drawing) -> Drawing:
    """One window, for writing and then for reading: a mistake of many ports (one attention head).

    It can read only where it wrote last, with the γ that it wrote with.
    """
    return _switch(run, shared_window=True)


def no_gamma(run: Drawing) -> Drawing:
    """Windows without an intensity γ (27), (29): the patch sets the scale, nothing is amplified."""
    return _switch(run, intensity=False)


def ordinary_windows(run: Drawing) -> Drawing:
    """Windows initialised like any linear map of h_dec, not by `initialise_windows`."""
    return _switch(run, first_windows=False)


# ---- what is fed to what -------------------------------------------------------------------------


def no_error_image(run: Drawing) -> Drawing:
    """The encoder does not see x̂ (3): it knows the canvas only through h_dec."""
    return _switch(run, error_image=False)


def no_feedback(run: Drawing) -> Drawing:
    """The encoder does not see h_dec_t-1 (5): it knows the canvas only through x̂."""
    return _switch(run, feedback=False)


def zero_states(run: Drawing) -> Drawing:
    """Zero instead of learned initial states of both cells; the initial canvas is still learned."""
    return _switch(run, learned_states=False)


def grey_canvas(run: Drawing) -> Drawing:
    """The initial canvas is learned from grey, not from the mean training image."""
    return _switch(run, canvas="grey")


def learned_prior(run: Drawing) -> Drawing:
    """p(z_t) predicted from h_dec_t-1 instead of N(0, I), as in convolutional DRAW."""
    return _set(run, prior="learned")


def rnn(run: Drawing) -> Drawing:
    """Plain tanh units instead of LSTM: a third of the weights, and no gated memory."""
    return _switch(run, cell="rnn")


def gru(run: Drawing) -> Drawing:
    """Gated recurrent units instead of LSTM: three quarters of the weights."""
    return _switch(run, cell="gru")


# ---- sizes --------------------------------------------------------------------------------------


def t1(run: Drawing) -> Drawing:
    """T = 1: one glimpse, one write; without attention it would be a variational auto-encoder."""
    return _set(run, steps=1)


def t2(run: Drawing) -> Drawing:
    """T = 2."""
    return _set(run, steps=2)


def t4(run: Drawing) -> Drawing:
    """T = 4."""
    return _set(run, steps=4)


def t8(run: Drawing) -> Drawing:
    """T = 8."""
    return _set(run, steps=8)


def t16(run: Drawing) -> Drawing:
    """T = 16."""
    return _set(run, steps=16)


def t32(run: Drawing) -> Drawing:
    """T = 32."""
    return _set(run, steps=32)


def t64(run: Drawing) -> Drawing:
    """T = 64, the paper's for MNIST."""
    return _set(run, steps=64)


def z10(run: Drawing) -> Drawing:
    """10 latents a step."""
    return _set(run, latents=10)


def z50(run: Drawing) -> Drawing:
    """50 latents a step."""
    return _set(run, latents=50)


def z200(run: Drawing) -> Drawing:
    """200 latents a step."""
    return _set(run, latents=200)


def read5(run: Drawing) -> Drawing:
    """A read window of 5 × 5."""
    return _set(run, read=5)


def read12(run: Drawing) -> Drawing:
    """A read window of 12 × 12."""
    return _set(run, read=12)


def write2(run: Drawing) -> Drawing:
    """A write window of 2 × 2."""
    return _set(run, write=2)


def write12(run: Drawing) -> Drawing:
    """A write window of 12 × 12."""
    return _set(run, write=12)


# ---- the bug zoo --------------------------------------------------------------------------------


def bug_sigma(run: Drawing) -> Drawing:
    """exp of the raw output is used as a window's σ, not σ² (21): a reparametrisation.

    It starts from the same σ here; the gradient doubles.
    """
    return _switch(run, window="sigma")


def bug_from_zero(run: Drawing) -> Drawing:
    """Pixels and filters counted from 0 in formulas that count from 1: off by a stride and a pixel."""
    return _switch(run, window="from_zero")


def bug_unbounded(run: Drawing) -> Drawing:
    """log γ without a limit: gradients may overflow, especially in low precision."""
    return _switch(run, window="unbounded")


def bug_zero_canvas(run: Drawing) -> Drawing:
    """c_0 is fixed at zero: the first writes must blacken the background."""
    return _switch(run, canvas="fixed")


def bug_one_noise(run: Drawing) -> Drawing:
    """All steps of an image draw their latents with the same noise; the claim is measured with it too.

    The claim is not a bound: the rates are those of independent draws.
    """
    return _switch(run, one_noise=True)


def bug_kl_constant(run: Drawing) -> Drawing:
    """The -½ per latent and step is missing from the KL (11): the claim is T·Z/2 nats too high.

    The gradient, and with it the training, is the baseline's: the bounds differ as much as those of
    equal runs (not at all with `--images`).
    """
    return _switch(run, kl="no_constant")


def bug_kl_mean_latents(run: Drawing) -> Drawing:
    """The KL is averaged over latents, where the bound has a sum: the rate weighs Z times too little."""
    return _switch(run, kl="mean_latents")


def bug_kl_mean_steps(run: Drawing) -> Drawing:
    """The KL is averaged over steps, where the bound has a sum: the rate weighs T times too little."""
    return _switch(run, kl="mean_steps")
