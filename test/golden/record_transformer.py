"""Records a small Llama in plain PyTorch, forward and backward, and transformers' rotary frequencies.

Run from the repository root, with PyTorch and transformers installed:

    python test/golden/record_transformer.py

It writes transformer.json: { rope, models }. The model below is written for this purpose and shares no code with the
library: rotation by rotate_half, attention by scaled_dot_product_attention with a boolean mask, all in float64.
Weights are not stored: weight i of parameter number p is round(scale * sin(0.7 i + 1.3 p), 3) (see `weight`), which
the test computes again. Matrices are [in, out]. `loss` is mean(weights * cross-entropy), `grads` its gradients.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

torch.set_default_dtype(torch.float64)
BASE = dict(vocabulary=11, dim=8, layers=2, heads=4, kvHeads=2, headDim=4, hidden=12, context=16)


def digits(t):
    return [float(f'{x:.9g}') for x in t.detach().reshape(-1).tolist()]


# Rotary frequencies -------------------------------------------------------------------------------------------------


def hugging_face(scaling, context):
    """rope_parameters of transformers for our scaling."""
    if scaling is None:
        return {'rope_type': 'default'}
    names = {
        'type': 'rope_type',
        'lowFrequencyFactor': 'low_freq_factor',
        'highFrequencyFactor': 'high_freq_factor',
        'originalContext': 'original_max_position_embeddings',
        'betaFast': 'beta_fast',
        'betaSlow': 'beta_slow',
        'attentionFactor': 'attention_factor',
    }
    return {names.get(key, key): value for key, value in scaling.items()}


def frequencies(size, base, scaling, context):
    if scaling is None:
        return 1.0 / base ** (torch.arange(0, size, 2) / size), 1.0
    config = LlamaConfig(
        hidden_size=size * 4,
        num_attention_heads=4,
        head_dim=size,
        max_position_embeddings=context,
        rope_parameters={**hugging_face(scaling, context), 'rope_theta': base},
    )
    inverse, factor = ROPE_INIT_FUNCTIONS[scaling['type']](config, 'cpu')
    return inverse.double(), float(factor)


LLAMA3 = dict(type='llama3', factor=8, lowFrequencyFactor=1, highFrequencyFactor=4, originalContext=8192)
SHORT_LLAMA3 = dict(type='llama3', factor=4, lowFrequencyFactor=1, highFrequencyFactor=4, originalContext=16)
YARN = dict(type='yarn', factor=4, originalContext=4096)
SHORT_YARN = dict(type='yarn', factor=2, originalContext=8, betaFast=2, betaSlow=0.5)
ROPES = [
    (64, 10000, dict(type='linear', factor=4), 8192),
    (128, 500000, LLAMA3, 131072),
    (64, 10000, YARN, 16384),
    (16, 1000000, dict(type='yarn', factor=2.5, originalContext=2048, betaFast=16, betaSlow=2), 5120),
    (32, 10000, dict(type='yarn', factor=8, originalContext=256, attentionFactor=0.9), 2048),
]


# The model ----------------------------------------------------------------------------------------------------------


def weight(number, shape):
    """Reproducible numbers of 3 decimals; vectors lie around 1 where they are gains."""
    n = math.prod(shape)
    values = [0.4 * math.sin(0.7 * i + 1.3 * number) for i in range(n)]
    return torch.tensor([math.floor(1000 * v + 0.5) / 1000 for v in values]).reshape(shape)


def parameters(c):
    """Names and shapes in the library's order."""
    d, inner = c['dim'], c['hidden']
    q, kv = c['heads'] * c['headDim'], c['kvHeads'] * c['headDim']
    shapes = {'embedding.weight': (c['vocabulary'], d)}
    if c.get('positions') == 'learned':
        shapes['positions.weight'] = (c['context'], d)

    def norm(name):
        shapes[f'{name}.weight'] = (d,)
        if c.get('norm') == 'layer':
            shapes[f'{name}.bias'] = (d,)

    for i in range(c['layers']):
        prefix = f'layers.{i}'
        norm(f'{prefix}.attentionNorm')
        for name, size in (('q', q), ('k', kv), ('v', kv)):
            shapes[f'{prefix}.attention.{name}.weight'] = (d, size)
            if c.get('qkvBias'):
                shapes[f'{prefix}.attention.{name}.bias'] = (size,)
        shapes[f'{prefix}.attention.o.weight'] = (q, d)
        if c.get('qkNorm'):
            shapes[f'{prefix}.attention.qNorm.weight'] = (c['headDim'],)
            shapes[f'{prefix}.attention.kNorm.weight'] = (c['headDim'],)
        norm(f'{prefix}.mlpNorm')
        if c.get('mlp', 'swiglu') == 'swiglu':
            shapes[f'{prefix}.mlp.gate.weight'] = (d, inner)
        shapes[f'{prefix}.mlp.up.weight'] = (d, inner)
        shapes[f'{prefix}.mlp.down.weight'] = (inner, d)
    norm('norm')
    if c.get('tied') is False:
        shapes['head.weight'] = (d, c['vocabulary'])
    made = {}
    for number, (name, shape) in enumerate(shapes.items()):
        gain = len(shape) == 1 and name.endswith('weight')
        made[name] = (weight(number, shape) + (1 if gain else 0)).requires_grad_()
    return made


def rms(x, w, eps=1e-5):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w


def rotate_half(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


def forward(c, p, tokens, positions, visible):
    batch, length = tokens.shape

    def norm(x, name):
        if c.get('norm') == 'layer':
            return F.layer_norm(x, (c['dim'],), p[f'{name}.weight'], p[f'{name}.bias'], 1e-5)
        return rms(x, p[f'{name}.weight'])

    def heads(x, n):
        return x.view(batch, length, n, c['headDim']).transpose(1, 2)

    x = p['embedding.weight'][tokens]
    if c.get('positions') == 'learned':
        x = x + p['positions.weight'][positions]
    if c.get('positions', 'rope') == 'rope':
        inverse, factor = frequencies(c['headDim'], c.get('ropeBase', 10000), c.get('ropeScaling'), c['context'])
        angles = positions[:, None, :, None] * inverse
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos() * factor, angles.sin() * factor
    for i in range(c['layers']):
        at = f'layers.{i}.attention'
        h = norm(x, f'layers.{i}.attentionNorm')
        q, k, v = (h @ p[f'{at}.{n}.weight'] + p.get(f'{at}.{n}.bias', 0) for n in 'qkv')
        q, k, v = heads(q, c['heads']), heads(k, c['kvHeads']), heads(v, c['kvHeads'])
        if c.get('qkNorm'):
            q, k = rms(q, p[f'{at}.qNorm.weight']), rms(k, p[f'{at}.kNorm.weight'])
        if c.get('positions', 'rope') == 'rope':
            q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        groups = c['heads'] // c['kvHeads']
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None])
        x = x + y.transpose(1, 2).reshape(batch, length, -1) @ p[f'{at}.o.weight']
        h = norm(x, f'layers.{i}.mlpNorm')
        mlp = f'layers.{i}.mlp'
        up = h @ p[f'{mlp}.up.weight']
        kind = c.get('mlp', 'swiglu')
        if kind == 'swiglu':
            up = F.silu(h @ p[f'{mlp}.gate.weight']) * up
        else:
            up = F.gelu(up, approximate='tanh') if kind == 'gelu' else F.relu(up) ** 2
        x = x + up @ p[f'{mlp}.down.weight']
    x = norm(x, 'norm')
    return x @ (p['embedding.weight'].T if c.get('tied', True) else p['head.weight'])


def record(name, config=None, documents=None, prefix=None, causal=True, positions=None):
    c = {**BASE, **(config or {})}
    batch, length = 2, 6
    generator = torch.Generator().manual_seed(len(name))
    tokens = torch.randint(0, c['vocabulary'], (batch, length), generator=generator)
    targets = torch.randint(0, c['vocabulary'], (batch, length), generator=generator)
    weights = torch.randint(0, 4, (batch, length), generator=generator).double() / 2
    order = torch.arange(length)
    places = torch.tensor(positions) if positions else order.expand(batch, length)
    visible = torch.ones(batch, length, length, dtype=torch.bool)
    if causal:
        visible = visible & (order[None, :] <= order[:, None])
    if prefix:
        ends = torch.tensor(prefix)[:, None, None]
        visible = visible | ((order[None, :, None] < ends) & (order[None, None, :] < ends))
    if documents:
        of = torch.tensor(documents)
        visible = visible & (of[:, :, None] == of[:, None, :])
    p = parameters(c)
    logits = forward(c, p, tokens, places, visible)
    rows = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction='none')
    loss = (rows * weights.flatten()).mean()
    loss.backward()
    given = {'documents': documents, 'prefix': prefix, 'positions': positions}
    return {
        'name': name,
        'config': c,
        'causal': causal,
        'tokens': tokens.flatten().tolist(),
        'targets': targets.flatten().tolist(),
        'weights': weights.flatten().tolist(),
        **{key: value for key, value in given.items() if value},
        'logits': digits(logits),
        'loss': float(f'{loss.item():.9g}'),
        'grads': {key: digits(value.grad) for key, value in p.items()},
    }


DOCUMENTS = [[0, 0, 0, 1, 1, 2], [3, 3, 4, 4, 4, 4]]
RESTARTED = [[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 2, 3]]
models = [
    record('grouped queries'),
    record('untied head, one key head', {'tied': False, 'kvHeads': 1}),
    record('QK norm and biases', {'qkNorm': True, 'qkvBias': True}),
    record('packed documents', documents=DOCUMENTS, positions=RESTARTED),
    record('prefix', prefix=[4, 2]),
    record('prefix inside documents', documents=DOCUMENTS, prefix=[2, 4]),
    record('bidirectional documents', documents=DOCUMENTS, causal=False),
    record('bidirectional', causal=False),
    record('linear scaling', {'ropeScaling': dict(type='linear', factor=2.5)}),
    record('llama3 scaling', {'ropeScaling': SHORT_LLAMA3, 'ropeBase': 50}),
    record('YaRN scaling, positions that restart', {'ropeScaling': SHORT_YARN, 'ropeBase': 50}, positions=RESTARTED),
    record('learned positions, LayerNorm, GELU', {'positions': 'learned', 'norm': 'layer', 'mlp': 'gelu'}),
    record('no positions, squared ReLU, wide heads', {'positions': 'none', 'mlp': 'relu2', 'headDim': 3}),
]
ropes = []
for size, base, scaling, context in ROPES:
    inverse, factor = frequencies(size, base, scaling, context)
    ropes.append({'headDim': size, 'base': base, 'scaling': scaling, 'frequencies': digits(inverse), 'factor': factor})
target = pathlib.Path(__file__).with_name('transformer.json')
target.write_text(json.dumps({'rope': ropes, 'models': models}, separators=(',', ':')) + '\n')
