"""The mathematics of the page, in a real browser, against the formulas in PyTorch."""

import copy
import json
from pathlib import Path

import pytest
import torch

for name in ("httpx", "playwright"):
    pytest.importorskip(name, reason="the page's tests need httpx and playwright")

from playwright.sync_api import sync_playwright  # noqa: E402

from browsing import CHROMIUM, FLAGS  # noqa: E402
from drawnet.demo import export, requests  # noqa: E402
from drawnet.drawing import figures, sample  # noqa: E402
from drawnet.models import latent, sequential  # noqa: E402
from drawnet.models.draw import DrawConfig  # noqa: E402
from drawnet.nn import attention  # noqa: E402
from drawnet.nn.distributions import Gaussian  # noqa: E402
from drawnet.nn.noise import normal_each, uniform_each  # noqa: E402
from served import packed, save  # noqa: E402

SMALL = DrawConfig(steps=6, units=12, latents=4, read=3, write=4)
CONFIGS = {
    "attentive": SMALL,
    "labelled": DrawConfig(steps=6, units=13, latents=5, read=2, write=5, classes=10),
    "learned": DrawConfig(
        steps=6, units=12, latents=4, read=3, write=4, prior="learned", classes=3
    ),
    "convolutions": DrawConfig(
        steps=6, units=12, latents=4, read=5, write=4, prior="learned", features=3
    ),
    "unattentive": DrawConfig(steps=6, units=12, latents=4, read=0, write=0),
}
SCRIPTS = ("draw", "noise", "local")


@pytest.fixture(scope="module")
def page():
    """A page with the modules of the mathematics as globals, and nothing else."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        names = ", ".join(f"{name}: ${name}" for name in SCRIPTS)
        page.set_content("<body></body>")
        page.add_script_tag(
            content=f"{export.script('local')}\nObject.assign(globalThis, {{ {names} }});"
        )
        yield page
        browser.close()


@pytest.fixture(scope="module")
def shown(tmp_path_factory, page):
    """Models by name, each also in the page."""
    folder = tmp_path_factory.mktemp("shown")
    paths = [save(folder, name, config, (1, 11, 12)) for name, config in CONFIGS.items()]
    exhibits = [requests.exhibit(path) for path in [*paths, Path("mnist")]]
    page.evaluate("html => document.body.innerHTML = html", "".join(map(export.element, exhibits)))
    page.evaluate("local.models()")
    return {e.name: e.network for e in exhibits}


def close(found, wanted, tolerance=1e-4):
    found = torch.as_tensor(found, dtype=torch.float64)
    torch.testing.assert_close(
        found.view(wanted.shape), wanted.double(),
        rtol=tolerance, atol=tolerance,
    )  # fmt: skip


def call(page, code, **values):
    """What a function body computes of these values; arrays become lists."""
    text = json.dumps(
        {k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in values.items()}
    )
    return json.loads(
        page.evaluate(
            f"""text => {{
              const {{ {", ".join(values)} }} = JSON.parse(text);
              const found = (() => {{ {code} }})();
              const plain = (_, v) => (ArrayBuffer.isView(v) ? Array.from(v) : v);
              return JSON.stringify(found, plain);
            }}""",
            text,
        )
    )


@pytest.mark.parametrize("n", [2, 5])
def test_windows_read_and_write_as_attention_does(page, n):
    torch.manual_seed(n)
    shape = (2, 9, 12)
    for scale in (0.3, 1.0, 3.0):
        parameters, x, patch = scale * torch.randn(5), torch.rand(shape), torch.randn(2, n, n)
        found = call(
            page,
            """const w = draw.window_(p, n, shape[1], shape[2]);
            return [draw.filterbanks(w, n, shape[1], shape[2]), draw.read([x, x], p, n, shape),
                    draw.write(x, patch, p, n, shape)];""",
            p=parameters, n=n, shape=shape, x=x.flatten(), patch=patch.flatten(),
        )  # fmt: skip
        batch = parameters[None].double()
        f_y, f_x = attention.filterbanks(attention.window(batch, n, *shape[1:]), n, *shape[1:])
        close(found[0][0], f_y[0])
        close(found[0][1], f_x[0])
        close(found[1], attention.read([x[None].double()] * 2, batch, n)[0])
        close(found[2], attention.write(x[None].double(), patch[None].double(), batch)[0])


@pytest.mark.parametrize("name", [*CONFIGS, "mnist"])
def test_every_step_is_that_of_the_formulas(page, shown, name):
    """To 1e-8 in float64, in which the page computes; its pixels to 1e-4 in float32."""
    network = shown[name]
    torch.manual_seed(1)
    x = (torch.rand(1, *network.shape) < 0.2).float()
    eps = torch.randn(network.steps, 1, *network.latents)
    y = torch.eye(network.classes)[-1:] if network.classes else torch.zeros(1, 0)
    found = call(
        page,
        """const model = local.network(name), rows = eps.map((row) => Float32Array.from(row));
        const read = [...draw.redraw(model, Float32Array.from(x), rows, y)];
        const weights = [...draw.log_weights(model, Float32Array.from(x), rows, y)];
        return { read, drawn: [...draw.generate(model, rows, y)], weight: weights.at(-1) };""",
        name=name, x=x.flatten(), eps=eps[:, 0], y=y[0],
    )  # fmt: skip
    single = sequential.redraw(network, x, eps, y)
    for mine, theirs in zip(found["read"], single, strict=True):
        close(torch.tensor(mine["state"]["c"]).sigmoid(), network.likelihood(theirs.state).mean[0])
    x, eps, y, network = x.double(), eps.double(), y.double(), copy.deepcopy(network).double()
    steps = list(sequential.redraw(network, x, eps, y))
    for mine, theirs in zip(found["read"], steps, strict=True):
        close(mine["state"]["c"], theirs.state.c[0], 1e-8)
        close(mine["noise"], theirs.noise[0], 1e-8)
        close([mine["rate"]], theirs.rate, 1e-8)
        for window, parameters in network.windows(theirs.state).items():
            close(mine["state"][window], parameters[0], 1e-8)
    for mine, theirs in zip(found["drawn"], sequential.generate(network, eps, y), strict=True):
        close(mine["c"], theirs.c[0], 1e-8)
        close(mine["h_dec"], theirs.h_dec[0], 1e-8)
    close([found["weight"]], sequential.log_weights(network, x, eps, y), 1e-8)


def test_a_posterior_in_its_prior_s_units_has_the_same_rate(page):
    torch.manual_seed(3)
    q, p = (Gaussian(*torch.randn(2, 1, 7).double()) for _ in range(2))
    found = call(
        page,
        """const [a, b] = [q, p].map(([mu, log_sigma]) => new draw.Gaussian(mu, log_sigma));
        return [a.kl(b), a.relative(b).kl(), a.relative(null).kl(), a.kl()];""",
        q=torch.cat(q), p=torch.cat(p),
    )  # fmt: skip
    rate = q.kl(p).item()
    assert found[:2] == pytest.approx([rate, rate]) and found[2] == found[3]


@pytest.mark.parametrize("length", [16, 6400, 37])
def test_noise_is_pytorch_s(page, length):
    for key in ((1, "sample", 0), (2**32 - 1, "redraw", 63)):
        seed, purpose, image = key
        code = f"return noise.WHAT_each({seed}, '{purpose}', {image}, {length});"
        normal = normal_each(seed, purpose, [image], length)[0]
        close(call(page, code.replace("WHAT", "normal")), normal, 1e-5)
        uniform = uniform_each(seed, purpose, [image], length)[0]
        assert torch.equal(torch.tensor(call(page, code.replace("WHAT", "uniform"))), uniform)


def stream(page, view, **request):
    """The lines with which the page answers a request."""
    return page.evaluate(
        """async ([view, request]) => {
          const lines = [];
          await local.stream(view, request, (line) => lines.push(line));
          return lines.map((line) => ({ ...line, ...(line.canvas && { canvas: [...line.canvas] }) }));
        }""",
        [view, request],
    )


def test_a_seed_draws_what_python_draws(page, shown):
    request = {"model": "labelled", "n": 4, "seed": 3, "temperature": 0.8, "rates": True}
    first, *lines, rates, _ = stream(page, "draw", **request)
    wanted = sample.sample_trajectory(shown["labelled"], 4, seed=3, temperature=0.8)
    assert first["labels"] == [0, 1, 2, 3] and len(lines) == 7
    for line, frame in zip(lines, wanted.frames, strict=True):
        close(line["canvas"], 255 * frame, 1.0)
    for line, window in zip(lines[1:], wanted.windows["write"], strict=True):
        close(line["windows"]["write"], window)
    *_, state = latent.sampling(shown["labelled"], range(4), seed=3, temperature=0.8)
    close(rates["rates"], sample.rates(shown["labelled"], state, range(4), seed=3))


def test_a_morph_is_python_s(page, shown):
    torch.manual_seed(2)
    pair = (torch.rand(2, 1, 11, 12) < 0.3).float()
    a, b = map(packed, pair)
    lines = stream(page, "morph", model="attentive", a=a, b=b, n=5, seed=4)
    *_, state = latent.morphing(shown["attentive"], pair, 5, seed=4)
    close(lines[-2]["canvas"], 255 * figures.mean(shown["attentive"], state), 1.0)
