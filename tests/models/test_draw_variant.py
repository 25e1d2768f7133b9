"""Every switch changes what it says and nothing else; without one the variant is DRAW to the bit."""

from dataclasses import asdict, fields, replace

import pytest
import torch

from drawnet.data.pipeline import View
from drawnet.errors import UserError
from drawnet.evaluation.likelihood import measure, summary
from drawnet.models.base import LossOptions
from drawnet.models.draw import Draw, DrawConfig
from drawnet.models.draw_variant import DrawVariant, DrawVariantConfig
from drawnet.models.sequential import bound, generate
from drawnet.nn import attention
from drawnet.nn.noise import ImageNoise, Noise
from drawnet.training import checkpoint, loop
from reference import installed

SHAPE = (1, 8, 10)
SIZES = {"steps": 3, "units": 16, "latents": 4, "read": 2, "write": 3}
WINDOWS = [(2, 3), (2, 0), (0, 3), (0, 0)]
SWITCHES = [
    {"error_image": False}, {"feedback": False}, {"cell": "gru"}, {"cell": "rnn"},
    {"learned_states": False}, {"canvas": "grey"}, {"canvas": "fixed"}, {"first_windows": False},
    {"shared_window": True}, {"intensity": False}, {"window": "sigma"}, {"window": "from_zero"},
    {"window": "unbounded"}, {"kl": "no_constant"}, {"kl": "mean_latents"}, {"kl": "mean_steps"},
    {"one_noise": True},
]  # fmt: skip


def build(kind=DrawVariant, seed=0, lively=True, **settings):
    config = DrawVariantConfig if kind is DrawVariant else DrawConfig
    torch.manual_seed(seed)
    model = kind(config(**SIZES | settings), SHAPE)
    if lively:
        torch.manual_seed(seed + 1)
        with torch.no_grad():
            for p in model.parameters():
                p.normal_(std=0.3)
    return model


def batch(n=5, seed=2):
    torch.manual_seed(seed)
    return (torch.rand(n, *SHAPE) < 0.4).float(), torch.randn(3, n, 4), torch.zeros(n, 0)


def gradients(model, loss):
    return dict(
        zip(
            dict(model.named_parameters()),
            torch.autograd.grad(loss.sum(), list(model.parameters())),
            strict=True,
        )
    )


def test_every_switch_is_tested_here():
    new = {f.name for f in fields(DrawVariantConfig)} - {f.name for f in fields(DrawConfig)}
    assert {name for switch in SWITCHES for name in switch} == new


# ---- all together -------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize(("read", "write"), WINDOWS)
def test_without_a_switch_it_is_draw_to_the_bit(read, write, prior):
    plain, variant = (
        build(kind, lively=False, read=read, write=write, prior=prior)
        for kind in (Draw, DrawVariant)
    )
    assert plain.state_dict().keys() == variant.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, variant.state_dict()[name]), name
    x, _, y = batch()
    results = [m.loss(x, y, Noise(0, 8), LossOptions()) for m in (plain, variant)]
    assert torch.equal(results[0].loss, results[1].loss)
    assert results[0].metrics.keys() == results[1].metrics.keys()
    one, two = (gradients(m, r.loss) for m, r in zip((plain, variant), results, strict=True))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_whole_run_without_a_switch_is_draws(tiny_run, tiny_data, tmp_path):
    run = replace(tiny_run, examples=48)
    other = replace(run, model=DrawVariantConfig(**asdict(run.model)))
    bests = [loop.train(r, tiny_data, tmp_path / str(k)).best for k, r in enumerate((run, other))]
    assert bests[0] == bests[1]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_variant_learns_with_all_its_parameters_and_draws(switch):
    model = build(**switch)
    x, eps, y = batch(8)
    result = model.loss(x, y, Noise(0, 8), LossOptions())
    assert result.loss.isfinite().all()
    for name, g in gradients(model, result.loss).items():
        assert g.isfinite().all() and g.any(), name
    *_, state = generate(model, eps.repeat(1, 2, 1)[:, :8])
    assert model.likelihood(state).mean.isfinite().all()


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_fused_and_plain_products_agree(switch):
    x, eps, _ = batch()
    plain, fused = (bound(m, x, eps).total for m in (build(**switch), installed(build(**switch))))
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shared_window": True, "read": 0}, "two windows"),
        ({"intensity": False, "read": 0, "write": 0}, "no window to change"),
        ({"window": "sigma", "read": 0, "write": 0}, "no window to change"),
    ],
)
def test_switches_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        DrawVariantConfig(**SIZES | settings)


# ---- what is fed to what ------------------------------------------------------------------------


@pytest.mark.parametrize(("read", "write"), WINDOWS)
def test_without_the_error_image_the_encoder_is_blind_to_the_canvas(read, write):
    x, _, y = batch()
    for seen, width in ((True, 2), (False, 1)):
        model = build(error_image=seen, read=read, write=write)
        state = model.start(y)
        painted = state._replace(c=state.c + torch.randn_like(state.c))
        q, p = model.infer(x, state)[0], model.infer(x, painted)[0]
        assert torch.equal(q.mu, p.mu) is not seen
        assert model.encoder.weight.shape[1] == width * (read**2 or 80) + 16 + 16


@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_without_feedback_the_encoder_is_deaf_to_the_decoder(prior):
    x, _, y = batch()
    for heard in (True, False):
        model = build(feedback=heard, prior=prior)
        state = model.start(y)
        other = state._replace(h_dec=state.h_dec + 1)
        states = [model.infer(x, s)[1].h_enc for s in (state, other)]
        assert torch.equal(*states) is not heard
        assert model.encoder.weight.shape[1] == 2 * 4 + 16 * heard + 16


def test_zero_states_are_zero_and_stay():
    model = build(learned_states=False)
    state = model.start(batch()[2])
    for name in ("h_enc", "s_enc", "h_dec", "s_dec"):
        assert not getattr(state, name).any()
        assert name not in dict(model.named_parameters()) and name not in model.state_dict()
    assert "c" in dict(model.named_parameters())


def test_three_first_canvases():
    mean = torch.full(SHAPE, 0.2)
    for canvas, filled in (("mean", True), ("grey", False), ("fixed", False)):
        model = build(canvas=canvas, lively=False)
        model.init_from_mean(mean)
        assert bool(model.c.any()) is filled
        assert ("c" in dict(model.named_parameters())) is (canvas != "fixed")


def test_ordinary_windows_leave_heads_and_decoder_as_they_were_drawn():
    lively, plain = (build(first_windows=first, lively=False) for first in (True, False))
    assert plain.h_dec.abs().max() == 0 < lively.h_dec.abs().max()
    assert plain.heads.bias.abs().max() == 0 < lively.heads.bias.abs().max()
    torch.testing.assert_close(lively.decoder.weight[:, -16:], 2 * plain.decoder.weight[:, -16:])
    assert torch.equal(lively.q.weight, plain.q.weight)


# ---- cells --------------------------------------------------------------------------------------


def gru(cell, width):
    book = torch.nn.GRUCell(width, 16)
    book.weight_ih, book.bias_ih = cell.x.weight, cell.x.bias
    book.weight_hh, book.bias_hh = cell.h.weight, cell.h.bias
    return book


def rnn(cell, width):
    book, (x, h) = torch.nn.RNNCell(width, 16), cell.xh.weight.split((width, 16), 1)
    book.load_state_dict(
        {"weight_ih": x, "weight_hh": h, "bias_ih": cell.xh.bias, "bias_hh": torch.zeros(16)}
    )
    return book


@pytest.mark.parametrize("kind", [gru, rnn])
def test_other_cells_are_pytorchs(kind):
    model = build(cell=kind.__name__)
    for cell, width in ((model.encoder, 8 + 16), (model.decoder, 4)):
        x, h, c = torch.randn(6, width), torch.randn(6, 16), torch.randn(6, 16)
        ours, kept = cell(x.split([3, width - 3], 1), h, c)
        torch.testing.assert_close(ours, kind(cell, width)(x, h), rtol=1e-5, atol=1e-6)
        assert kept is c


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_have_no_cell_state_to_learn(cell):
    model = build(cell=cell)
    assert not {"s_enc", "s_dec"} & dict(model.named_parameters()).keys()
    assert {"h_enc", "h_dec"} <= dict(model.named_parameters()).keys()


# ---- windows ------------------------------------------------------------------------------------


def emitted(**switches):
    """What the variant without a switch and the one with it, of equal weights, make of one h_dec."""
    plain, variant = build().double(), build(**switches).double()
    with torch.no_grad():
        for model in (plain, variant):  # windows within the image: nothing is clamped
            model.heads.bias[[12, 17]] = -1.5
    h = 0.3 * torch.randn(6, 16, dtype=torch.float64)
    return plain, plain.decoder_heads(h), variant.decoder_heads(h), variant


def test_a_shared_window_is_read_where_it_was_written():
    model = build(shared_window=True)
    assert model.heads.weight.shape == (9 + 5, 16)
    x, eps, y = batch()
    after = model.advance(eps[0], model.infer(x, model.start(y))[1])
    assert torch.equal(after.next_read, after.write)
    _, seen = model.infer(x, after)
    assert torch.equal(model.windows(seen)["read"], after.write)


def test_without_gamma_every_window_has_unit_intensity():
    _, (w, *plain), (v, *ours), _ = emitted(intensity=False)
    assert torch.equal(w, v)
    for raw, bent in zip(plain, ours, strict=True):
        assert torch.equal(raw[:, :4], bent[:, :4]) and not bent[:, 4].any() and raw[:, 4].all()


def test_sigma_for_its_square():
    _, (_, *plain), (_, *ours), _ = emitted(window="sigma")
    for raw, bent, n in zip(plain, ours, (3, 2), strict=True):
        sigma2 = attention.window(bent, n, *SHAPE[1:]).sigma2
        torch.testing.assert_close(sigma2.sqrt(), raw[:, 2].exp())
        assert torch.equal(raw[:, [0, 1, 3, 4]], bent[:, [0, 1, 3, 4]])
    fresh = [build(lively=False, window=window).heads.bias for window in ("paper", "sigma")]
    torch.testing.assert_close(fresh[0][11], 2 * fresh[1][11])


def test_counted_from_zero_the_filters_are_off_by_a_stride_and_a_pixel():
    """Against the formulas as a port has them: i and a from 0, the rest as in the paper."""
    _, (_, *plain), (_, *ours), _ = emitted(window="from_zero")
    height, width = SHAPE[1:]
    for raw, bent, n in zip(plain, ours, (3, 2), strict=True):
        w = attention.window(raw, n, height, width)
        i, a = torch.arange(n), torch.arange(width)
        mu = w.g_x[:, None] + (i - n / 2 - 0.5) * w.delta[:, None]
        f = (-((a - mu[..., None]) ** 2) / (2 * w.sigma2[:, None, None])).softmax(-1)
        right = attention.window(bent, n, height, width)
        torch.testing.assert_close(attention.filterbanks(right, n, height, width)[1], f)


def test_an_unbounded_gamma_goes_beyond_the_limit_and_is_the_same_within():
    plain, variant = build(), build(window="unbounded")
    x, _, y = batch()
    for log_gamma, factor in ((1.0, 1), (15.0, 3), (-15.0, -3)):
        state = plain.start(y)
        state = state._replace(next_read=torch.tensor([[0, 0, 0, -1, log_gamma]]).expand(5, 5))
        one, two = plain.encoder_inputs(x, state)[0], variant.encoder_inputs(x, state)[0]
        more = torch.tensor(float(factor)).exp() if factor != 1 else 1.0
        torch.testing.assert_close(two, one * more)
        for model in (plain, variant):
            with torch.no_grad():
                model.heads.weight.zero_()
                model.heads.bias[13] = log_gamma
        one, two = (model.decoder_heads(torch.zeros(2, 16))[0] for model in (plain, variant))
        torch.testing.assert_close(two, one / more)


# ---- the rate, and what is claimed --------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kl", ["no_constant", "mean_latents", "mean_steps"])
def test_a_wrong_rate_is_claimed_beside_the_true_bound(kl, training):
    plain, variant = build(Draw), build(kl=kl)
    variant.train(training)
    x, _, y = batch()
    how = LossOptions(kl_weight=0.5)
    true = plain.loss(x, y, ImageNoise(0, range(5)), how).metrics
    ours = variant.loss(x, y, ImageNoise(0, range(5)), how)
    for name in ("nats", "rate", "distortion"):
        assert torch.equal(ours.metrics[name], true[name])
    rate = true["rate"].sum(0)
    wrong = {"no_constant": rate + 3 * 4 / 2, "mean_latents": rate / 4, "mean_steps": rate / 3}
    torch.testing.assert_close(ours.metrics["claimed"], true["distortion"] + wrong[kl])
    torch.testing.assert_close(ours.loss, true["distortion"] + 0.5 * wrong[kl])


def test_without_its_constant_the_rate_has_the_same_gradient():
    plain, variant = build(Draw), build(kl="no_constant")
    x, _, y = batch()
    one, two = (
        gradients(m, m.loss(x, y, Noise(0, 0), LossOptions()).loss) for m in (plain, variant)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_one_noise_is_trained_and_claimed_with_and_not_measured_with():
    plain, variant = build(Draw), build(one_noise=True)
    x, _, y = batch()
    noise = ImageNoise(0, range(5))
    eps = noise.normal("latents", 3, 5, 4, axis=1)
    same = bound(plain, x, eps[:1].expand(3, 5, 4)).total
    trained = variant.loss(x, y, noise, LossOptions())
    assert torch.equal(trained.loss, same) and torch.equal(trained.metrics["claimed"], same)
    measured = variant.eval().loss(x, y, noise, LossOptions()).metrics
    assert torch.equal(measured["nats"], bound(plain, x, eps).total)
    assert torch.equal(measured["claimed"], same)
    assert (measured["nats"] != same).all()


def test_a_run_with_a_wrong_rate_is_judged_by_the_true_bound(tiny_run, tiny_data, tmp_path):
    model = DrawVariantConfig(**asdict(tiny_run.model), kl="mean_latents")
    progress = loop.train(replace(tiny_run, model=model), tiny_data, tmp_path)
    network = checkpoint.load_model(tmp_path).network
    means = summary(measure(network, View(tiny_data, "valid")))
    assert means["nats"].mean == pytest.approx(progress.best, rel=1e-5)
    assert means["claimed"].mean < means["nats"].mean
