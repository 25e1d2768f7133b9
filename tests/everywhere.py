"""All that is done with models, done on a device: `python tests/everywhere.py FOLDER` does it on `far`.

FOLDER/found.safetensors has the numbers and FOLDER/shown.json the page's answers, which must not
depend on the device.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from conftest import make_data, make_run, small
from drawnet import kernels, models
from drawnet.data.pipeline import View
from drawnet.demo import answers, requests
from drawnet.drawing import figures, sample
from drawnet.evaluation import likelihood
from drawnet.models import latent
from drawnet.models.base import Classifier, ImplicitModel, LikelihoodModel
from drawnet.models.glimpse import Glimpse
from drawnet.models.sequential import StepModel
from drawnet.training import checkpoint, device, loop

DATA = make_data()
MASKED = replace(
    DATA, splits={k: replace(s, pixels=s.pixels.repeat(2, 1)) for k, s in DATA.splits.items()}
)
"""The same with a second channel, which chairs take for a mask."""
X = torch.from_numpy(DATA.splits["test"].pixels[:3]).float()
FEW = {"classes": 3, "units": 12, "joint": 12, "hidden": 12, "generator": 12, "discriminator": 8}


def run_of(kind):
    config = models.config(kind)
    model = small(kind, **{name: n for name, n in FEW.items() if hasattr(config, name)})
    return replace(make_run(), model=model, examples=16, evaluate_every=16, save_every=16)


def made(kind, folder, where):
    """The numbers of one model, trained, evaluated and drawn with there, by name."""
    data = MASKED if kind == "chairs" else DATA
    loop.train(run_of(kind), data, folder, kernels="off", device=where)
    found = dict(checkpoint.load_tensors(folder / "training.safetensors")[0])
    model = checkpoint.load_model(folder, "off", where).network
    assert model.device == device.choose(where)
    k = 5 * isinstance(model, LikelihoodModel)
    found |= likelihood.measure(model, View(data, "test"), importance_samples=k, rows=4)
    if isinstance(model, StepModel):
        found |= drawn(model)
    if isinstance(model, ImplicitModel):
        found["samples"] = sample.sample_trajectory(model, 3).frames
        found["last"] = sample.samples(model, range(3))
    if isinstance(model, Classifier):
        found["p"] = model.classify(X.to(model.device)).cpu()
    if isinstance(model, Glimpse):
        found |= sample.glimpse_trajectory(model, X).windows
    return found


@torch.no_grad()
def drawn(model):
    labels = [2] if model.classes else []
    samples = sample.sample_trajectory(model, 3)
    again = sample.redraw_trajectory(model, X, labels=labels)
    *_, state = latent.sampling(model, range(3))
    *_, faded = latent.morphing(model, X[:2], 3, labels=labels)
    known = torch.ones(8, 8, dtype=torch.bool).tril()
    found = {"frames": samples.frames, **{f"w {k}": w for k, w in samples.windows.items()}}
    found |= {"again": again.frames, **{f"again {k}": w for k, w in again.windows.items()}}
    found |= {"rates": sample.rates(model, state, range(3)).cpu()}
    found |= {"last": sample.samples(model, range(3)), "morph": figures.mean(model, faded)}
    found |= {"filled": torch.stack(list(latent.completing(model, X[0], known, 2, rounds=2)))}
    if model.classes:
        found["reads as"] = sample.reads_as(model, X, draws=2)
    return found


def shown(folder, where):
    """The page's answers: lines of JSON values."""
    e = replace(requests.exhibit(folder, device=where), mark="")  # the file has its own times
    kernels.uninstall(e.network)
    r = {"n": 2, "labels": [], "seed": 1, "temperature": 1.0, "rates": True, "rounds": 1}
    r |= {"x": X[0], "a": X[1], "b": X[2], "known": torch.eye(8, dtype=torch.bool)}
    return [e.about | {"nats": 0}] + [
        line for view in answers.STREAMS for line in answers.lines(view, e, r)
    ]


def main(folder, where):
    found = {}
    for kind in models.names():
        numbers = made(kind, folder / kind, where)
        found |= {f"{kind} {name}": t.contiguous() for name, t in numbers.items()}
    save_file(found, folder / "found.safetensors")
    return shown(folder / "draw", where)


if __name__ == "__main__":
    import json

    import far  # noqa: F401

    torch.set_num_threads(1)
    to = Path(sys.argv[1])
    (to / "shown.json").write_text(json.dumps(main(to, "auto")))
