"""Records two training runs in PyTorch, float32, into trajectory.json: every loss and the final weights.

Run from the repository root, with the environment of the peers' benchmarks (npm run bench:peers):

    bench/peers/.venv/bin/python test/golden/record_trajectory.py

The network is Linear 8->32, GELU (tanh), Linear 32->5; the loss is the cross-entropy of one fixed batch of 16.
Weights are [in, out], so that y = x @ w + b.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(2025)
torch.set_num_threads(1)
STEPS = 50
x = torch.randn(16, 8)
y = torch.randint(0, 5, (16,))
initial = {
    'w1': torch.randn(8, 32) * 8**-0.5,
    'b1': torch.randn(32) * 0.1,
    'w2': torch.randn(32, 5) * 32**-0.5,
    'b2': torch.randn(5) * 0.1,
}


def store(t):
    return {'shape': list(t.shape), 'data': [float(f'{v:.9g}') for v in t.detach().reshape(-1).tolist()]}


def train(make_optimizer, clip_norm=None):
    weights = {name: value.clone().requires_grad_() for name, value in initial.items()}
    optimizer = make_optimizer(weights.values())
    losses = []
    for _ in range(STEPS):
        hidden = F.gelu(x @ weights['w1'] + weights['b1'], approximate='tanh')
        loss = F.cross_entropy(hidden @ weights['w2'] + weights['b2'], y)
        optimizer.zero_grad()
        loss.backward()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(weights.values(), clip_norm)
        optimizer.step()
        losses.append(float(f'{loss.item():.9g}'))
    return {'losses': losses, 'weights': {name: store(value) for name, value in weights.items()}}


recorded = {
    'x': store(x),
    'y': y.tolist(),
    'initial': {name: store(value) for name, value in initial.items()},
    'sgd': train(lambda ws: torch.optim.SGD(ws, lr=0.1, momentum=0.9)),
    'adamW': train(
        lambda ws: torch.optim.AdamW(ws, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1), clip_norm=1.0
    ),
}
path = pathlib.Path(__file__).with_name('trajectory.json')
path.write_text(json.dumps(recorded, separators=(',', ':')) + '\n')
for name in ['sgd', 'adamW']:
    print(name, recorded[name]['losses'][0], '->', recorded[name]['losses'][-1])
