"""Records runs of torch.optim.Muon, float32, into muon.json: weights after every step of given gradients.

Run from the repository root, with the environment of the peers' benchmarks (npm run bench:peers):

    bench/peers/.venv/bin/python test/golden/record_muon.py

Gradients and weights are stored [in, out], as Anneal keeps them; torch sees their transposes. Its update works
in bfloat16 on Newton-Schulz iterations: `zeropower` is replaced by the same iterations in float64, so that the
record is exact and everything else is torch's own code.
"""

import json
import pathlib

import torch
import torch.optim._muon as torch_muon

torch.manual_seed(7)
torch.set_num_threads(1)


def exact_zeropower(grad, ns_coefficients, ns_steps, eps):
    a, b, c = ns_coefficients
    x = grad.double()
    if x.size(0) > x.size(1):
        x = x.T
    x = x / x.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    if grad.size(0) > grad.size(1):
        x = x.T
    return x.float()


torch_muon._zeropower_via_newtonschulz = exact_zeropower

SHAPES = [(6, 10), (10, 6), (6, 10)]
STEPS = 4
initial = [torch.randn(shape) for shape in SHAPES]
gradients = [[torch.randn(shape) for shape in SHAPES] for _ in range(STEPS)]


def store(t):
    return [float(f'{v:.9g}') for v in t.detach().reshape(-1).tolist()]


def run(**options):
    weights = [w.T.clone().contiguous().requires_grad_() for w in initial]
    optimizer = torch.optim.Muon(weights, **options)
    history = []
    for step in gradients:
        for w, g in zip(weights, step):
            w.grad = g.T.clone().contiguous()
        optimizer.step()
        history.append([store(w.T.contiguous()) for w in weights])
    return history


recorded = {
    'shapes': SHAPES,
    'initial': [store(w) for w in initial],
    'gradients': [[store(g) for g in step] for step in gradients],
    'original': run(lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn='original'),
    'matchAdamW': run(lr=0.01, weight_decay=0.1, momentum=0.9, nesterov=False, adjust_lr_fn='match_rms_adamw'),
}
path = pathlib.Path(__file__).with_name('muon.json')
path.write_text(json.dumps(recorded, separators=(',', ':')) + '\n')
