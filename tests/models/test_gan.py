"""The adversaries: whose step moves whom, the losses, maxout, dropout; and Parzen windows."""

import math
from dataclasses import replace

import pytest
import torch

from drawnet import models
from drawnet.drawing import sample
from drawnet.errors import UserError
from drawnet.evaluation import parzen
from drawnet.models.base import LossOptions
from drawnet.models.gan import GANConfig, Maxout
from drawnet.nn import distributions
from drawnet.nn.noise import ImageNoise, Noise
from drawnet.training import loop
from drawnet.training.state import Session

SMALL = GANConfig(noise=5, generator=16, discriminator=6, pieces=3)


@pytest.fixture
def gan():
    torch.manual_seed(0)
    network = models.build(SMALL, (1, 8, 8))
    for p in network.discriminator.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return network


def test_maxout_is_the_largest_piece_of_limited_length():
    torch.manual_seed(0)
    layer = Maxout(4, 2, 3, longest=1.5)
    torch.nn.init.normal_(layer.weight, std=2)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(5, 4)
    for b in range(5):
        for j in range(2):
            pieces = []
            for i in range(3):
                w = layer.weight[3 * j + i]
                w = w * min(1.0, 1.5 / w.norm().item())
                pieces.append((w @ x[b] + layer.bias[3 * j + i]).item())
            assert layer(x)[b, j].item() == pytest.approx(max(pieces), rel=1e-5)


def test_dropout_keeps_its_share_and_the_mean(gan):
    x = torch.ones(2000, 1, 8, 8)
    seen = []
    hook = gan.discriminator.first.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    gan.discriminator(x, Noise(0, 0), "real")
    gan.discriminator(x, Noise(0, 8), "real")
    hook.remove()
    first, second = seen
    assert sorted(first.unique().tolist()) == [0, 1.25]
    assert first.mean().item() == pytest.approx(1, abs=0.01)
    assert not torch.equal(first, second)


def test_a_maxout_of_any_length():
    torch.manual_seed(0)
    layer = Maxout(4, 2, 3)
    torch.nn.init.normal_(layer.weight, std=9)
    x = torch.randn(5, 4)
    pieces = (x @ layer.weight.T).view(5, 2, 3)
    torch.testing.assert_close(layer(x), pieces.amax(2))


def test_the_last_bias_starts_at_the_mean_image(gan):
    mean = torch.linspace(0, 1, 64).view(1, 8, 8)
    gan.init_from_mean(mean)
    for layer in gan.generator.layers:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.zeros_(layer.weight)
    made = gan.make(3, Noise(0, 0), "any")
    torch.testing.assert_close(made, mean.clamp(1e-3, 0.999).expand(3, -1, -1, -1))


def in_turn(network):
    """The same players, updated in turn."""
    network.config = replace(network.config, updates="in_turn")
    return network


def losses(network, x, noise):
    """Both losses by their formulas, with the images and masks that are shared."""
    made = network.make(len(x), noise, "players noise")
    real, false = (
        network.discriminator(images, noise, purpose).sigmoid()
        for images, purpose in ((x, "real"), (made, "made"))
    )
    weight = network.config.discriminator_weight
    return weight * (-real.log() - (1 - false).log()), -false.log()


def test_the_losses_are_the_papers(gan):
    x, noise = torch.rand(7, 1, 8, 8), Noise(3, 16)
    d = gan.loss(x, torch.zeros(7, 0), noise, LossOptions(group="players"))
    wanted = losses(gan, x, noise)
    torch.testing.assert_close(d.loss, wanted[0])
    torch.testing.assert_close(d.metrics["generator"], wanted[1])


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_one_pass_gives_each_player_the_gradient_of_its_own_loss(gan, weight):
    gan.config = replace(gan.config, discriminator_weight=weight)
    x, noise = torch.rand(7, 1, 8, 8), Noise(3, 16)
    gan.loss(x, torch.zeros(7, 0), noise, LossOptions(group="players")).loss.mean().backward()
    for player, loss in zip((gan.discriminator, gan.generator), losses(gan, x, noise), strict=True):
        for p, wanted in zip(
            player.parameters(),
            torch.autograd.grad(loss.mean(), list(player.parameters()), retain_graph=True),
            strict=True,
        ):
            assert wanted.abs().max() > 0
            torch.testing.assert_close(p.grad, wanted, rtol=1e-4, atol=1e-7)


def test_a_discriminator_that_is_sure_does_not_break_the_generators_gradient(gan):
    with torch.no_grad():
        gan.discriminator.out.bias.fill_(-200.0)
    x = torch.rand(7, 1, 8, 8)
    terms = gan.loss(x, torch.zeros(7, 0), Noise(3, 16), LossOptions(group="players"))
    terms.loss.mean().backward()
    assert all(p.grad.isfinite().all() for p in gan.parameters())


def test_in_turn_the_losses_have_images_of_their_own(gan):
    x, noise = torch.rand(7, 1, 8, 8), Noise(3, 16)
    d = in_turn(gan).loss(x, torch.zeros(7, 0), noise, LossOptions(group="discriminator"))
    made = gan.make(7, noise, "discriminator noise")
    real = gan.discriminator(x, noise, "real").sigmoid()
    false = gan.discriminator(made, noise, "made").sigmoid()
    torch.testing.assert_close(d.loss, 0.5 * (-real.log() - (1 - false).log()))
    g = gan.loss(x, torch.zeros(7, 0), noise, LossOptions(group="generator"))
    made = gan.make(7, noise, "generator noise")
    fooled = gan.discriminator(made, noise, "fooled").sigmoid()
    torch.testing.assert_close(g.loss, -fooled.log())


GROUPS = {
    "at_once": [{"discriminator", "generator"}],
    "in_turn": [{"discriminator"}, {"generator"}],
}


@pytest.mark.parametrize("updates", list(GROUPS))
def test_each_group_moves_its_own_weights(updates, tiny_run, tiny_data, monkeypatch):
    run = replace(tiny_run, model=replace(SMALL, updates=updates), optimizer="sgd", lr=0.1)
    pixels = torch.from_numpy(tiny_data.splits["train"].pixels)
    session, moved = Session.fresh(run, pixels, 2), []
    real = loop.update

    def watched(session, *rest):
        before = {k: v.clone() for k, v in session.model.state_dict().items()}
        metrics = real(session, *rest)
        after = session.model.state_dict()
        moved.append({k.split(".")[0] for k in before if not torch.equal(before[k], after[k])})
        return metrics

    monkeypatch.setattr(loop, "update", watched)
    metrics = loop.train_step(session, pixels, 2)
    assert moved == GROUPS[updates]
    assert {"discriminator", "generator"} <= set(metrics)


def test_the_generator_learns_to_fool(tiny_run, tiny_data, tmp_path):
    run = replace(tiny_run, model=SMALL, lr=2e-3, examples=4800, evaluate_every=800)
    loop.train(run, tiny_data, tmp_path)
    model = sample.load(tmp_path)
    ink = sample.sample(model, 200).mean((0, 1))
    assert ink.mean().item() == pytest.approx(9 / 64, abs=0.08)  # a fresh one: a half
    with pytest.raises(UserError, match="temperature"):
        sample.sample(model, 4, temperature=0.5)
    with pytest.raises(UserError, match="label"):
        sample.sample(model, 4, labels=[1])


def test_validation_is_a_parzen_window_over_samples_of_its_own(gan):
    x = torch.rand(6, 1, 8, 8)
    whole = gan.loss(x, torch.zeros(6, 0), ImageNoise(0, range(6)), LossOptions())
    part = gan.loss(x[2:], torch.zeros(4, 0), ImageNoise(0, range(2, 6)), LossOptions())
    torch.testing.assert_close(part.metrics["parzen"], whole.metrics["parzen"][2:])


@pytest.mark.parametrize("changes", [{"keep_input": 0.0}, {"keep_hidden": 1.5}, {"pieces": 0}])
def test_senseless_settings(changes):
    with pytest.raises(UserError, match=next(iter(changes)).replace("_", "[-_]")):
        replace(SMALL, **changes)


# ---- Parzen windows -----------------------------------------------------------------------------


def test_a_window_density_is_a_mixture_of_gaussians():
    torch.manual_seed(0)
    x, samples, sigma = torch.rand(4, 1, 2, 3), torch.rand(5, 1, 2, 3), 0.3
    gaussians = torch.distributions.Normal(samples.double().view(5, 6), sigma)
    found = distributions.log_density(x, samples, sigma)[0]
    for value, image in zip(found, x.double(), strict=True):
        terms = gaussians.log_prob(image.view(1, 6)).sum(1)
        assert value.item() == pytest.approx(terms.logsumexp(0).item() - math.log(5))


def test_the_estimate_of_a_gaussian_is_its_entropy():
    """Of unlimited samples and a window that is much narrower it would be -D/2 log 2πe s²."""
    torch.manual_seed(0)
    d, spread = 2, 0.5
    samples, valid, test = (spread * torch.randn(n, d) for n in (4000, 500, 4000))
    found = parzen.estimate(samples, valid, test)
    truth = -d / 2 * math.log(2 * math.pi * math.e * spread**2)
    assert found.sigma == pytest.approx(parzen.SIGMAS[0]) or found.sigma < 0.2
    assert abs(found.nats - truth) < 4 * found.stderr + 0.05
    worse = parzen.estimate(samples + 1, valid, test)
    assert worse.nats < found.nats - 0.5


def test_the_sigma_is_chosen_on_validation_images():
    torch.manual_seed(0)
    samples = torch.zeros(10, 50)
    for spread in (0.2, 0.6):
        valid = spread * torch.randn(400, 50)
        found = parzen.estimate(samples, valid, torch.zeros(3, 50))
        nearest = min(parzen.SIGMAS, key=lambda s, t=spread: abs(math.log(s / t)))
        assert found.sigma == pytest.approx(nearest)
