"""Records what Hugging Face transformers' logits processors leave of a distribution, into sampling.json.

Run from the repository root, in an environment with torch and transformers:

    python test/golden/record_sampling.py

Penalties on generated tokens and the bias are OpenAI's and vLLM's; transformers has none of that form, so they
are three lines of NumPy here. Bias comes first, then repetition, presence and frequency penalties.
"""

import itertools
import json
import pathlib

import numpy as np
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCABULARY = 97
rng = np.random.default_rng(11)
rows = {
    'flat': rng.normal(0, 0.5, VOCABULARY),
    'usual': rng.normal(0, 3, VOCABULARY),
    'peaked': rng.normal(0, 12, VOCABULARY),
}
rows = {name: row.astype(np.float32) for name, row in rows.items()}
prompt = [3, 5, 5, 8, 90]
generated = [7, 7, 7, 8, 11, 40]


def reference(logits, o):
    x = logits.astype(np.float64).copy()
    for token, bias in o.get('logitBias', {}).items():
        x[int(token)] += bias
    x = torch.from_numpy(x)[None]
    seen = torch.tensor([prompt + generated])
    if 'repetitionPenalty' in o:
        x = RepetitionPenaltyLogitsProcessor(o['repetitionPenalty'])(seen, x)
    counts = np.bincount(generated, minlength=VOCABULARY)
    x = x - torch.from_numpy(
        (counts > 0) * o.get('presencePenalty', 0) + counts * o.get('frequencyPenalty', 0)
    )
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(o.get('temperature', 1)))])
    if 'topK' in o:
        warpers.append(TopKLogitsWarper(o['topK']))
    if 'topP' in o:
        warpers.append(TopPLogitsWarper(o['topP']))
    if 'minP' in o:
        warpers.append(MinPLogitsWarper(o['minP']))
    logprobs = torch.log_softmax(warpers(seen, x)[0], -1)
    kept = torch.isfinite(logprobs).nonzero()[:, 0].tolist()
    return {'tokens': kept, 'logprobs': [round(logprobs[i].item(), 9) for i in kept]}


options = [{}]
for temperature, k, p, m in itertools.product((0.3, 1, 2.5), (None, 3, 40), (None, 0.3, 0.95), (None, 0.02, 0.4)):
    values = {'temperature': temperature, 'topK': k, 'topP': p, 'minP': m}
    options.append({name: value for name, value in values.items() if value is not None})
penalties = [
    {'repetitionPenalty': 1.3},
    {'repetitionPenalty': 0.7, 'topK': 5},
    {'presencePenalty': 1.5},
    {'frequencyPenalty': 0.8, 'temperature': 0.7},
    {'frequencyPenalty': -0.5, 'presencePenalty': -0.25, 'topP': 0.8},
    {'logitBias': {'7': 5.0, '11': -100.0, '96': 2.5}},
    {'logitBias': {'7': 9.0}, 'repetitionPenalty': 1.2, 'presencePenalty': 0.5, 'frequencyPenalty': 0.2, 'topK': 12,
     'topP': 0.9, 'minP': 0.01, 'temperature': 1.4},
]
cases = [
    {'row': name, 'options': o, **reference(rows[name], o)}
    for name in rows
    for o in (options if name == 'usual' else options[::5]) + penalties
]
raw = {name: torch.log_softmax(torch.from_numpy(row).double(), -1).tolist() for name, row in rows.items()}
out = {
    'prompt': prompt,
    'generated': generated,
    'rows': {name: row.tolist() for name, row in rows.items()},
    'logprobs': {name: [round(x, 9) for x in row] for name, row in raw.items()},
    'cases': cases,
}
path = pathlib.Path(__file__).with_name('sampling.json')
path.write_text(json.dumps(out, separators=(',', ':')) + '\n')
print(path, len(cases), 'cases')
