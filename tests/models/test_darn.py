"""Autoregressive bits: sums to one, bounds in their order, exactness, both gradients, the drawing."""

import itertools
from dataclasses import replace

import pytest
import torch

from drawnet import cli, models
from drawnet.drawing import sample
from drawnet.errors import UserError
from drawnet.evaluation.likelihood import evaluate
from drawnet.models.base import LossOptions
from drawnet.models.darn import DARNConfig, FirstOrder, Links
from drawnet.nn import weight_noise
from drawnet.nn.noise import ImageNoise, Noise
from drawnet.training import loop
from reference import view

SMALL = DARNConfig(hidden=3)
LINKED = [
    dict(zip(("prior_links", "pixel_links", "encoder_links"), on, strict=True))
    for on in itertools.product((True, False), repeat=3)
]


def built(config=SMALL, shape=(1, 2, 2), seed=0):
    torch.manual_seed(seed)
    model = models.build(config, shape).double()
    for p in model.parameters():
        torch.nn.init.normal_(p)
    return model


def bits(n):
    """All of them, (2^n, n)."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=torch.float64)


def joint(model, x):
    """log p(x, h) for every image and every h, (B, 2^H)."""
    h = bits(model.config.hidden)
    copies = x.repeat_interleave(len(h), 0)
    codes = h.repeat(len(x), 1)
    return (model.log_prior(codes) + model.log_pixels(copies, codes)).view(len(x), -1)


def posterior(model, x):
    """log q(h | x) likewise."""
    h = bits(model.config.hidden)
    return model.log_q(x.repeat_interleave(len(h), 0), h.repeat(len(x), 1)).view(len(x), -1)


IMAGES = bits(4).view(16, 1, 2, 2)


@pytest.mark.parametrize("links", LINKED)
@pytest.mark.parametrize("tanh", [0, 5])
def test_everything_sums_to_one(links, tanh):
    model = built(replace(SMALL, tanh=tanh, **links))
    assert joint(model, IMAGES).logsumexp((0, 1)).exp().item() == pytest.approx(1)
    assert torch.allclose(posterior(model, IMAGES).logsumexp(1).exp(), torch.ones(16).double())


def test_without_hidden_units_the_likelihood_is_exact():
    model = built(replace(SMALL, hidden=0))
    log_p = model.log_pixels(IMAGES, None)
    assert log_p.logsumexp(0).exp().item() == pytest.approx(1)
    e = evaluate(model.float(), view(IMAGES.byte()), importance_samples=3)
    assert e.exact and e.rate_nats == 0 and e.kl_per_step == []
    assert e.elbo_nats == pytest.approx(-log_p.mean().item(), rel=1e-5)
    assert e.iw_nats == pytest.approx(e.elbo_nats)


def test_a_bit_hears_those_before_it_and_no_others():
    links = Links(5)
    torch.nn.init.normal_(links.weight)
    seen = torch.autograd.functional.jacobian(links, torch.rand(5))
    assert (seen.triu() == 0).all() and (seen.tril(-1) != 0).sum() == 10


@pytest.mark.parametrize("links", [True, False])
def test_bounds_stand_in_their_order_and_meet_the_truth(links):
    model = built(replace(SMALL, encoder_links=links))
    for p in (q for name, q in model.named_parameters() if "encoder" in name):
        torch.nn.init.normal_(p, std=0.4)  # off, but not so far that draws would miss the mass
    truth = -joint(model, IMAGES).logsumexp(1).mean().item()
    log_q, log_p = posterior(model, IMAGES), joint(model, IMAGES)
    expected = (log_q.exp() * (log_q - log_p)).sum(1).mean().item()
    pixels = IMAGES.byte().repeat(300, 1, 1, 1)
    e = evaluate(model.float(), view(pixels), importance_samples=5)
    assert not e.exact and len(e.kl_per_step) == 1
    assert abs(e.elbo_nats - expected) < 4 * e.elbo_stderr
    assert truth < e.iw_nats < e.elbo_nats - 0.1
    many = evaluate(model, view(pixels[:16]), importance_samples=2000)
    assert many.iw_nats == pytest.approx(truth, abs=0.03)


def test_the_posterior_is_drawn_from_as_it_is_judged():
    model = built(replace(SMALL, encoder_links=True))
    x = IMAGES[5:6].expand(4000, -1, -1, -1)
    h, logits = model.infer(x, Noise(0, 0).uniform("h", 4000, 3).double())
    torch.testing.assert_close(
        (h * logits - torch.nn.functional.softplus(logits)).sum(1), model.log_q(x, h)
    )
    shares = torch.stack([(h == code).all(1).double().mean() for code in bits(3)])
    assert (shares - posterior(model, IMAGES[5:6])[0].exp()).abs().max() < 0.03


@pytest.mark.parametrize("links", LINKED[::2])
def test_images_are_drawn_as_they_are_judged(links):
    model, n = built(replace(SMALL, **links)), 6000
    noise = ImageNoise(0, range(n))
    h = model.code(n, noise).double()
    logits, u = model.canvas(n, h), noise.uniform("x", n, 4).double()
    if links["pixel_links"]:
        drawn, logits = model.pixel_links.draw(logits, u)
    else:
        drawn = (u < logits.sigmoid()).double()
    shares = torch.stack([(drawn == x.flatten()).all(1).double().mean() for x in IMAGES])
    assert (shares - joint(model, IMAGES).logsumexp(1).exp()).abs().max() < 0.025
    frames = model.frames(n, noise)
    torch.testing.assert_close(frames[-1].flatten(1), logits.sigmoid())


def test_rows_appear_one_after_the_other():
    model = built(shape=(2, 3, 4)).float()
    frames = model.frames(5, ImageNoise(0, range(5)))
    assert frames.shape == (7, 5, 2, 3, 4) and (frames[0] == 0.5).all()
    for t, rows in enumerate(frames.view(7, 5, 6, 4)):
        assert torch.equal(rows[:, :t], frames[-1].view(5, 6, 4)[:, :t])
        assert (rows[:, t:] == 0.5).all()


# ---- gradients ----------------------------------------------------------------------------------


def test_the_papers_gradient_is_exact_for_quadratic_costs_alone():
    logits = torch.tensor([-2.0, 0.3, 1.5], dtype=torch.float64)
    uniform = ((torch.arange(4000) + 0.5) / 4000).double()[:, None].expand(-1, 3)
    q = logits.sigmoid()
    for cost, exact in ((lambda h: 2 * (h - 0.3) ** 2 + h, True), (lambda h: h**3 - h, False)):
        a = logits.clone().requires_grad_()
        h = FirstOrder.apply(a.expand(4000, 3), uniform)
        assert set(h.unique().tolist()) == {0, 1}
        cost(h).mean(0).sum().backward()
        truth = (cost(torch.ones(3)) - cost(torch.zeros(3))) * q * (1 - q)
        assert torch.allclose(a.grad, truth, atol=1e-3) == exact


def truth(model, x, weight):
    """Gradients of the exact, weighted bound, by name."""
    model.zero_grad()
    log_q, log_p = posterior(model, x), joint(model, x)
    h = bits(model.config.hidden)
    prior = model.log_prior(h)
    cost = prior - log_p + weight * (log_q - prior)
    (log_q.exp() * cost).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("links", [True, False])
def test_the_other_gradient_is_unbiased(links, monkeypatch):
    """Its mean over all pairs of draws is the gradient of the exact bound, to rounding."""
    model = built(replace(SMALL, encoder_links=links, estimator="leave_one_out", draws=2))
    expected = truth(model, IMAGES[6:7], 0.7)
    h = bits(3)
    pairs = torch.stack([h.repeat_interleave(8, 0), h.repeat(8, 1)], 1)
    q = posterior(model, IMAGES[6:7])[0].exp().detach()
    weights = (q[:, None] * q).flatten()
    monkeypatch.setattr(model, "infer", lambda x, uniform: (pairs.flatten(0, 1), None))
    model.zero_grad()
    x = IMAGES[6:7].expand(64, -1, -1, -1)
    found = model.loss(x, torch.zeros(64, 0), Noise(0, 0), LossOptions(kl_weight=0.7))
    (weights * found.loss).sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], msg=name)
    distortion, rate = found.metrics["distortion"], found.metrics["rate"].sum(0)
    torch.testing.assert_close(found.loss, distortion + 0.7 * rate)


def test_the_reweighted_gradient_is_of_the_normalised_weights():
    """The model's is that of the K-sample bound; the encoder fits the reweighted draws."""
    model = built(replace(SMALL, estimator="reweighted", draws=5))
    x, noise = IMAGES[4:7], Noise(0, 0)
    found = model.loss(x, torch.zeros(3, 0), noise, LossOptions())
    found.loss.sum().backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters()}
    copies = x.repeat_interleave(5, 0)
    h = model.infer(copies, noise.uniform("hidden", 3, 5, 3).flatten(0, 1).double())[0].detach()
    log_q = model.log_q(copies, h)
    log_p = model.log_prior(h) + model.log_pixels(copies, h)
    ratio = (log_p - log_q.detach()).view(3, 5)
    model.zero_grad()
    (-ratio.logsumexp(1).sum() - (ratio.detach().softmax(1) * log_q.view(3, 5)).sum()).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(got[name], p.grad, msg=name)
    torch.testing.assert_close(found.loss, -ratio.mean(1))
    torch.testing.assert_close(found.loss, found.metrics["nats"])


# ---- weight noise -------------------------------------------------------------------------------


def test_what_noisy_weights_do_has_their_mean_and_deviation():
    torch.manual_seed(0)
    links, x = Links(5, noisy=True), torch.rand(5)
    torch.nn.init.normal_(links.weight)
    torch.nn.init.normal_(links.log_sigma)
    torch.testing.assert_close(links(x), links.weight.tril(-1) @ x)
    with weight_noise.drawn(links, Noise(0, 0)):
        rows = links(x.expand(20_000, -1))
        assert torch.equal(rows, links(x.expand(20_000, -1)))
    sigma = links.log_sigma.exp().tril(-1)
    direct = (links.weight.tril(-1) + sigma * torch.randn(20_000, 5, 5)) @ x
    torch.testing.assert_close(rows.mean(0), direct.mean(0), atol=0.04, rtol=0)
    torch.testing.assert_close(rows.std(0), direct.std(0), atol=0.03, rtol=0.03)
    torch.testing.assert_close(links(x), links.weight.tril(-1) @ x)


def test_the_weights_cost_is_the_divergence_from_the_best_gaussian():
    torch.manual_seed(0)
    links = Links(5, noisy=True)
    torch.nn.init.normal_(links.weight)
    torch.nn.init.normal_(links.log_sigma)
    used = torch.ones(5, 5).tril(-1) > 0
    q = torch.distributions.Normal(links.weight[used], links.log_sigma[used].exp())
    costs = [
        torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, s)).sum()
        for s in torch.linspace(0.5, 5, 2000)
    ]
    torch.testing.assert_close(links.cost(), torch.stack(costs).min(), rtol=1e-5, atol=1e-4)
    assert Links(5).cost() == 0


def test_training_pays_for_the_weights_and_evaluation_takes_their_means():
    model = built(replace(SMALL, weight_noise=0.01)).float()
    x, noise = IMAGES.float(), Noise(0, 0)
    found = model.loss(x, torch.zeros(16, 0), noise, LossOptions())
    total = 0.01 * sum(m.cost() for m in model.modules() if isinstance(m, weight_noise.Weights))
    torch.testing.assert_close(found.loss, found.metrics["nats"] + total)
    found.loss.mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    plain = built(SMALL).float()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "log_sigma" not in k})
    a, b = (m.eval().loss(x, torch.zeros(16, 0), noise, LossOptions()) for m in (model, plain))
    torch.testing.assert_close(a.loss, b.loss)
    assert "weights" not in a.metrics


def test_the_papers_gradient_points_the_same_way():
    model = built(replace(SMALL, encoder_links=True))
    x = IMAGES[6:7].expand(20_000, -1, -1, -1)
    expected = truth(model, x[:1], 1.0)
    model.zero_grad()
    model.loss(x, torch.zeros(len(x), 0), Noise(0, 0), LossOptions()).loss.mean().backward()
    for name, p in model.named_parameters():
        alike = torch.cosine_similarity(p.grad.flatten(), expected[name].flatten(), 0)
        assert alike > (0.8 if "encoder" in name else 0.99), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"estimator": "leave_one_out"},
        {"encoder_links": True},
        {"estimator": "reweighted", "weight_noise": 1e-4},
    ],
)
def test_it_learns_squares(changes, tiny_run, tiny_data, tmp_path):
    """Pixels one by one cost 26 nats; which of 25 squares it is, 3.2."""
    config = DARNConfig(hidden=12, pixel_links=False, **changes)
    run = replace(tiny_run, model=config, lr=1e-2, examples=6400, evaluate_every=1600)
    progress = loop.train(run, tiny_data, tmp_path)
    assert progress.best < 18
    images = sample.sample(sample.load(tmp_path), 50)
    assert images.mean().item() == pytest.approx(9 / 64, abs=0.06)


@pytest.mark.parametrize(
    "changes", [{"draws": 1}, {"hidden": -1}, {"hidden": 0, "pixel_links": False}]
)
def test_senseless_settings(changes):
    with pytest.raises(UserError, match=f"--model.{next(iter(changes))}"):
        replace(SMALL, **changes)


def test_grey_levels_are_refused(tiny_run, tiny_data, tmp_path):
    grey = replace(tiny_data, levels=256)
    with pytest.raises(UserError, match=r"--data.binarise dynamic$"):
        loop.train(replace(tiny_run, model=SMALL), grey, tmp_path)


@pytest.mark.parametrize("hidden", [0, 6])
def test_the_command_line_says_what_is_exact(hidden, capsys, tmp_path):
    words = ["train", "mnist_darn", "--data.name", "digits", "--data.binarise", "dynamic"]
    words += ["--examples", "200", "--model.hidden", str(hidden), "--validation-images", "10"]
    cli.main([*words, "--out", str(tmp_path / "run")])
    capsys.readouterr()
    cli.main(["evaluate", str(tmp_path / "run"), "--images", "12", "--importance-samples", "3"])
    out = capsys.readouterr().out
    assert ("-log p(x) " in out) == (hidden == 0)
    assert ("bound " in out and "rate " in out and "K = 3 " in out) == (hidden > 0)
