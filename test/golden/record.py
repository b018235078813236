"""Records what PyTorch computes for every public op, forward and backward, into ops.json and second.json.

Run from the repository root, with the environment of the peers' benchmarks (npm run bench:peers):

    bench/peers/.venv/bin/python test/golden/record.py

Inputs are float32 numbers from a fixed seed; PyTorch computes with them in float64, and results are stored
with 9 significant digits. An entry is { op, args, inputs, outputs, cotangents, grads }: `op` is called with
`args`, in which "$i" stands for inputs[i]; `grads` has the gradient of sum(outputs * cotangents) for every float
input. A tensor is { dtype (float32 where left out), shape, data }, and null among its numbers is NaN. Cotangents
of outputs that are not floats, and gradients of inputs that are not, are null. In second.json `grads` are those
of sum(gradients of the inputs * seeds), for every float input, then every cotangent.
"""

import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(2025)
entries = []
twice = {}
NAMES = {torch.float64: 'float32', torch.int64: 'int32', torch.bool: 'bool'}


def number(x):
    """At most 9 digits, fewer where they name the same float32."""
    if math.isnan(x):
        return None
    if x == int(x):
        return int(x)
    single = np.float32(x)
    return float(str(single)) if float(single) == x else float(f'{x:.9g}')


def store(t, dtype=None):
    dtype = dtype or NAMES[t.dtype]
    data = [number(x) for x in t.detach().reshape(-1).tolist()]
    return {**({} if dtype == 'float32' else {'dtype': dtype}), 'shape': list(t.shape), 'data': data}


def floats(*shape, low=-2.0, high=2.0):
    """Uniform numbers of 3 decimals, as float32 has them."""
    numbers = np.round(rng.uniform(low, high, shape), 3)
    return torch.tensor(numbers.astype(np.float32), dtype=torch.float64)


def apart(*shape):
    """Values at least 0.1 apart, in random order: no ties."""
    n = math.prod(shape)
    values = (rng.permutation(n) - n / 2 + 0.3) * 0.125
    return torch.tensor(values.astype(np.float32).reshape(shape), dtype=torch.float64)


def values(data):
    return torch.tensor(np.array(data, np.float32), dtype=torch.float64)


def ints(data):
    return torch.tensor(data, dtype=torch.int64)


def bools(data):
    return torch.tensor(data, dtype=torch.bool)


def record(op, reference, inputs=(), args=None, dtypes=None, gradient=True):
    """
    `args` default to the inputs in order; `dtypes` names the outputs' types where they are not those of
    PyTorch; without `gradient` no float input has one.
    """
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    args = [f'${i}' for i in range(len(inputs))] if args is None else args
    outputs = reference(*inputs)
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    cotangents = [floats(*y.shape, low=-1, high=1) if y.is_floating_point() else None for y in outputs]
    total = sum((y * c).sum() for y, c in zip(outputs, cotangents) if c is not None)
    leaves = [x for x in inputs if x.requires_grad]
    if gradient and leaves and torch.is_tensor(total):
        record_second(op, args, reference, inputs, cotangents)
    grads = [None] * len(leaves)
    if torch.is_tensor(total) and total.requires_grad:
        grads = torch.autograd.grad(total, leaves, allow_unused=True)
    by_leaf = {id(x): torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads)}
    maybe = lambda t: None if t is None else store(t)
    entries.append(
        {
            'op': op,
            'args': args,
            'inputs': [store(x) for x in inputs],
            'outputs': [store(y, dtypes and dtypes[i]) for i, y in enumerate(outputs)],
            'cotangents': [maybe(c) for c in cotangents],
            'grads': [maybe(by_leaf.get(id(x))) if gradient else None for x in inputs],
        }
    )


def record_second(op, args, reference, inputs, cotangents):
    """The gradient of the gradient, for the first call of each op with these arguments."""
    key = f'{op}{args}'
    if key in twice:
        return
    leaves = [x for x in inputs if x.requires_grad]
    weights = [None if c is None else c.clone().requires_grad_() for c in cotangents]
    outputs = reference(*inputs)
    outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    total = sum((y * c).sum() for y, c in zip(outputs, weights) if c is not None)
    options = {'allow_unused': True, 'materialize_grads': True}
    first = torch.autograd.grad(total, leaves, create_graph=True, **options)
    if not any(g.requires_grad for g in first):
        return
    seeds = [floats(*x.shape, low=-1, high=1) for x in leaves]
    wrt = leaves + [c for c in weights if c is not None]
    second = torch.autograd.grad(sum((g * s).sum() for g, s in zip(first, seeds)), wrt, **options)
    twice[key] = {
        'op': op,
        'args': args,
        'inputs': [store(x) for x in inputs],
        'cotangents': [None if c is None else store(c) for c in weights],
        'seeds': [store(s) for s in seeds],
        'grads': [store(torch.zeros(g.shape) + g) for g in second],
    }


def arithmetic():
    positive = lambda *shape: floats(*shape, low=0.3, high=2)
    shapes = [
        ((2, 3), (2, 3)),
        ((2, 3), (3,)),
        ((4, 1, 3), (2, 1)),
        ((), (2, 2)),
        ((2, 2), ()),
        ((1,), (3,)),
        ((0, 3), (3,)),
    ]
    for a, b in shapes:
        record('add', torch.add, [floats(*a), floats(*b)])
        record('sub', torch.sub, [floats(*a), floats(*b)])
        record('mul', torch.mul, [floats(*a), floats(*b)])
        record('div', torch.div, [floats(*a), positive(*b)])
        record('pow', torch.pow, [positive(*a), floats(*b)])
    for op, f in [('minimum', torch.minimum), ('maximum', torch.maximum)]:
        spoiled = floats(19)
        spoiled[2] = spoiled[12] = math.nan
        record(op, f, [spoiled, floats(19)], gradient=False)
        record(op, f, [floats(19), spoiled], gradient=False)
        record(op, f, [apart(3, 4), apart(3, 4) + 0.0625])
        record(op, f, [apart(3, 1, 4), apart(2, 1) + 0.0625])
        record(op, f, [values([1, float('nan'), 2]), values([0, 1, float('nan')])], gradient=False)
        record(op, f, [ints([1, -2, 7]), ints([[0], [3]])])
    record('add', lambda x: x + 1.5, [floats(3)], ['$0', 1.5])
    record('sub', lambda x: 1 - x, [floats(3)], [1, '$0'])
    record('mul', lambda x: x * x, [floats(3)], ['$0', '$0'])
    record('div', lambda x: 2 / x, [positive(2, 2)], [2, '$0'])
    record('pow', lambda x: x**x, [positive(2, 2)], ['$0', '$0'])
    record('add', torch.add, [ints([[1, -2], [3, 4]]), ints([5, -6])])
    record('mul', torch.mul, [ints([[1, -2], [3, 4]]), ints([5, -6])])
    record(
        'div',
        lambda a, b: torch.div(a, b, rounding_mode='trunc'),
        [ints([7, -7, 7, -7, 6]), ints([2, 2, -2, -2, 3])],
    )
    record('pow', lambda x: x**2, [floats(2, 3)], ['$0', 2])
    record('pow', lambda x: x**3, [floats(2, 3)], ['$0', 3])
    record('pow', lambda x: x**0.5, [positive(2, 3)], ['$0', 0.5])
    record('pow', lambda x: x**-1, [floats(4, low=-2, high=-0.4)], ['$0', -1])
    record('pow', lambda x: 2**x, [floats(2, 3)], [2, '$0'])
    record('pow', torch.pow, [values([0, 0, 1.5]), values([2, 1, 2])])
    record('pow', lambda x: x**2, [values([-1.5, 0, 2])], ['$0', 2])
    record('pow', lambda x: x**0, [values([-1.5, 0, 2])], ['$0', 0])


def comparisons():
    a, b = values([[1, 2, -3], [0.5, 2, 7]]), values([1, 2.5, -3])
    for op, f in [
        ('equal', torch.eq),
        ('notEqual', torch.ne),
        ('less', torch.lt),
        ('lessEqual', torch.le),
        ('greater', torch.gt),
        ('greaterEqual', torch.ge),
    ]:
        record(op, f, [a, b])
        record(op, lambda x: f(x, 2), [a], ['$0', 2])
        record(op, f, [ints([1, 2, 3, -4]), ints([[1], [3]])])
        record(op, f, [values([float('nan'), 1]), values([float('nan'), float('nan')])])
    p, q = bools([0, 0, 1, 1]), bools([[0], [1]])
    record('logicalAnd', torch.logical_and, [p, q])
    record('logicalOr', torch.logical_or, [p, q])
    record('logicalXor', torch.logical_xor, [p, q])
    record('logicalNot', torch.logical_not, [p])
    record('isNan', torch.isnan, [values([1, float('nan'), -2])])
    record('where', torch.where, [bools([[0, 1, 1], [1, 0, 0]]), floats(2, 3), floats(3)])
    record('where', torch.where, [bools([[0], [1]]), floats(), floats(2, 3)])
    record('where', lambda c, x: torch.where(c, x, 0), [bools([0, 1, 1]), floats(2, 3)], ['$0', '$1', 0])
    record(
        'where', lambda c, x: torch.where(c, -1.5, x), [bools([0, 1, 1]), floats(2, 3)], ['$0', -1.5, '$1']
    )
    record('where', torch.where, [bools([0, 1, 1]), ints([1, 2, 3]), ints([-1, -2, -3])])


def unary():
    wide = values([[-100, -20, -5, -1, -1e-3], [0, 1e-3, 2, 20, 100]])
    everywhere = {
        'neg': torch.neg,
        'exp': torch.exp,
        'sin': torch.sin,
        'cos': torch.cos,
        'tan': torch.tan,
        'atan': torch.atan,
        'tanh': torch.tanh,
        'sigmoid': torch.sigmoid,
        'erf': torch.erf,
        'softplus': lambda x: F.softplus(x, threshold=1e3),
        'square': torch.square,
        'abs': torch.abs,
        'silu': F.silu,
        'relu': F.relu,
        'reluSquared': lambda x: F.relu(x) ** 2,
        'sign': torch.sign,
        'floor': torch.floor,
        'ceil': torch.ceil,
        'round': torch.round,
        'identity': lambda x: x * 1,
        'stopGradient': lambda x: x.detach(),
        'accumulate': lambda x: x * 1,
    }
    for op, f in everywhere.items():
        record(op, f, [floats(3, 4)])
        record(op, f, [floats()])
        record(op, f, [floats(0, 2)])
        if op in ('atan', 'tanh', 'sigmoid', 'erf', 'softplus', 'abs', 'silu', 'relu', 'reluSquared', 'sign'):
            record(op, f, [wide])
    for op, f in [
        ('log', torch.log),
        ('sqrt', torch.sqrt),
        ('rsqrt', torch.rsqrt),
        ('reciprocal', torch.reciprocal),
    ]:
        record(op, f, [floats(3, 4, low=0.2, high=3)])
        record(op, f, [values([1e-6, 1e-3, 1, 1e3, 1e6])])
    record('reciprocal', torch.reciprocal, [floats(4, low=-2, high=-0.4)])
    record('exp', torch.exp, [values([-100, -87, -10, 0, 10])])
    halves = values([-2.5, -1.5, -0.5, -0.2, 0, 0.5, 1.5, 2.5, 3.7])
    for op in ['floor', 'ceil', 'round']:
        record(op, everywhere[op], [halves])
    for op in ['neg', 'abs', 'sign']:
        record(op, everywhere[op], [ints([-3, 0, 5])])
    record('clip', lambda x: x.clamp(-0.7, 1.1), [floats(3, 4)], ['$0', -0.7, 1.1])
    record('clip', lambda x: x.clamp(-2, 4), [ints([-5, 0, 9])], ['$0', -2, 4])
    holes = floats(19)
    holes[3] = math.nan
    for op in ['relu', 'reluSquared', 'softplus', 'sigmoid', 'tanh', 'silu', 'abs', 'exp']:
        record(op, everywhere[op], [holes], gradient=False)
    record('clip', lambda x: x.clamp(-0.7, 1.1), [holes], ['$0', -0.7, 1.1], gradient=False)
    for mode in ['tanh', 'none']:
        f = lambda x: F.gelu(x, approximate=mode)
        record('gelu', f, [floats(3, 4)], ['$0', mode])
        record('gelu', f, [wide], ['$0', mode])
        record('gelu', f, [floats(0)], ['$0', mode])
    record('gelu', lambda x: F.gelu(x, approximate='tanh'), [floats(5)])
    record('cast', lambda x: x.to(torch.int64), [values([-1.7, -0.2, 0, 0.9, 2.5])], ['$0', 'int32'])
    record('cast', lambda x: x.to(torch.bool), [values([-1.7, 0, 0.9])], ['$0', 'bool'])
    record('cast', lambda x: x.double(), [ints([-3, 0, 5])], ['$0', 'float32'])
    record('cast', lambda x: x.double(), [bools([0, 1])], ['$0', 'float32'])
    record('cast', lambda x: x * 1, [floats(3)], ['$0', 'float64'], dtypes=['float64'])


def reductions():
    for op, f in [('sum', torch.sum), ('mean', torch.mean), ('max', torch.amax), ('min', torch.amin)]:
        record(op, f, [apart(2, 3, 4)])
        for axes, keep in [(1, False), (-1, True), ([0, 2], False), ([0, -1], True), ([], False)]:
            g = (lambda x: x * 1) if axes == [] else (lambda x: f(x, dim=axes, keepdim=keep))
            record(op, g, [apart(2, 3, 4)], ['$0', axes, keep])
        record(op, f, [apart()])
        record(op, lambda x: f(x, dim=0), [apart(1, 3)], ['$0', 0])
    record('sum', torch.sum, [floats(0, 3)])
    record('sum', lambda x: x.sum(0), [floats(0, 3)], ['$0', 0])
    record('sum', lambda x: x.sum(1), [ints([[1, 2], [-3, 5]])], ['$0', 1])
    record('max', lambda x: x.amax(1), [ints([[1, 2], [-3, 5]])], ['$0', 1])
    record('max', lambda x: x.amax(1), [values([[1, 3, 3], [2, 2, 2]])], ['$0', 1])
    record('min', lambda x: x.amin(1), [values([[3, 1, 1], [2, 2, 2]])], ['$0', 1])
    for op, f in [('argmax', torch.argmax), ('argmin', torch.argmin)]:
        record(op, lambda x: f(x, dim=-1), [apart(2, 3, 4)])
        record(op, lambda x: f(x, dim=1), [apart(2, 3, 4)], ['$0', 1])
        record(op, lambda x: f(x, dim=0, keepdim=True), [apart(2, 3)], ['$0', 0, True])
        record(
            op,
            lambda x: ints([1, 0]),
            [values([[1, 5, 5], [4, 4, 4]] if op == 'argmax' else [[5, 1, 1], [4, 4, 4]])],
        )

    def cumsum(x, axis, exclusive, reverse):
        y = x.flip(axis) if reverse else x
        y = y.cumsum(axis) - (y if exclusive else 0)
        return y.flip(axis) if reverse else y

    for shape, axis in [((3, 4), 1), ((3, 4), 0), ((2, 3, 2), -2), ((5,), -1)]:
        for exclusive in [False, True]:
            for reverse in [False, True]:
                options = {'exclusive': exclusive, 'reverse': reverse}
                record(
                    'cumsum',
                    lambda x: cumsum(x, axis, exclusive, reverse),
                    [floats(*shape)],
                    ['$0', axis, options],
                )
    record('cumsum', lambda x: x.cumsum(-1), [ints([[1, 2, 3], [4, -5, 6]])])
    for axes in [0, -1, [0, 2]]:
        for correction in [0, 1]:
            options = {'correction': correction, 'keepDims': correction == 1}
            f = lambda x: x.var(dim=axes, correction=correction, keepdim=correction == 1)
            record('variance', f, [floats(3, 2, 4)], ['$0', axes, options])
    record('variance', lambda x: x.var(correction=0), [floats(3, 4)])
    record('variance', lambda x: x.var(dim=-1, correction=0), [floats(2, 5, low=8, high=12)], ['$0', -1])
    record('logSumExp', lambda x: x.logsumexp(-1), [floats(3, 4)])
    record('logSumExp', lambda x: x.logsumexp(0, keepdim=True), [floats(3, 4)], ['$0', 0, True])
    record('logSumExp', lambda x: x.logsumexp(1), [floats(2, 3, 2)], ['$0', 1])
    record('logSumExp', lambda x: x.logsumexp(-1), [values([[100, 99, -100], [-50, -51, -52]])])


def products():
    for a, b in [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 3, 4), (2, 4, 2)),
        ((2, 1, 3, 4), (3, 4, 2)),
        ((4,), (4, 3)),
        ((3, 4), (4,)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 3)),
        ((1, 3), (3, 1)),
        ((2, 0), (0, 3)),
        ((0, 3), (3, 2)),
    ]:
        record('matmul', torch.matmul, [floats(*a), floats(*b)])
    for lead_a, lead_b in [((), ()), ((2,), (2,)), ((2,), ()), ((), (2,))]:
        for ta in [False, True]:
            for tb in [False, True]:
                a = floats(*lead_a, *((3, 2) if ta else (2, 3)))
                b = floats(*lead_b, *((4, 3) if tb else (3, 4)))
                f = lambda a, b: 0.5 * (a.mT if ta else a) @ (b.mT if tb else b)
                record('matmul', f, [a, b], ['$0', '$1', {'transposeA': ta, 'transposeB': tb, 'scale': 0.5}])
    record('matmul', torch.matmul, [floats(4, low=0.2), floats(4, low=0.2)])
    record('matmul', lambda a: a @ a, [floats(3, 3)], ['$0', '$0'])
    record('matmul', lambda a: a @ a.mT, [floats(2, 3, 4)], ['$0', '$0', {'transposeB': True}])
    for equation, shapes in [
        ('ij,jk->ik', [(2, 3), (3, 4)]),
        ('bqhd,bkhd->bhqk', [(2, 3, 2, 4), (2, 5, 2, 4)]),
        ('bij->bji', [(2, 3, 4)]),
        ('ij->', [(2, 3)]),
        ('i,j->ij', [(3,), (4,)]),
        ('ab,bc,cd->ad', [(2, 3), (3, 4), (4, 2)]),
        ('abc,c->b', [(2, 3, 4), (4,)]),
        ('i,i->', [(4,), (4,)]),
        ('bi,bi->b', [(3, 4), (3, 4)]),
        ('bhi,hij->bhj', [(2, 3, 4), (3, 4, 2)]),
    ]:
        inputs = [floats(*shape) for shape in shapes]
        record(
            'einsum',
            lambda *xs: torch.einsum(equation, *xs),
            inputs,
            [equation, *(f'${i}' for i in range(len(inputs)))],
        )


def views():
    record(
        'rearrange',
        lambda x: x.reshape(2, 3, 2, 4).transpose(1, 2),
        [floats(2, 3, 8)],
        ['$0', 'b t (h d) -> b h t d', {'h': 2}],
    )
    record(
        'rearrange',
        lambda x: x.transpose(1, 2).reshape(2, 3, 8),
        [floats(2, 2, 3, 4)],
        ['$0', 'b h t d -> b t (h d)'],
    )
    record('rearrange', lambda x: x.permute(2, 0, 1), [floats(2, 3, 4)], ['$0', 'a b c -> c a b'])
    record(
        'rearrange',
        lambda x: x.reshape(2, 3, 2, 2, 2).permute(0, 2, 4, 3, 1).reshape(2, 4, 6),
        [floats(2, 3, 4, 2)],
        ['$0', 'b c (h p) w -> b (h w) (p c)', {'p': 2}],
    )
    record('rearrange', lambda x: x.reshape(6, 4), [floats(2, 3, 4)], ['$0', 'a b c -> (a b) c'])
    record('reshape', lambda x: x.reshape(4, 3), [floats(2, 6)], ['$0', [4, 3]])
    record('reshape', lambda x: x.reshape(3, -1), [floats(2, 6)], ['$0', [3, -1]])
    record('reshape', lambda x: x.reshape(()), [floats(1, 1)], ['$0', []])
    record('reshape', lambda x: x.reshape(2, 6), [floats(2, 6)], ['$0', [2, 6]])
    record('reshape', lambda x: x.reshape(3, 0), [floats(0, 6)], ['$0', [3, 0]])
    record('expandDims', lambda x: x.unsqueeze(1), [floats(2, 3)], ['$0', 1])
    record('expandDims', lambda x: x.unsqueeze(-1), [floats(2, 3)], ['$0', -1])
    record('squeeze', torch.squeeze, [floats(1, 3, 1)])
    record('squeeze', lambda x: x.squeeze(-1), [floats(1, 3, 1)], ['$0', [-1]])
    record('transpose', lambda x: x.mT, [floats(2, 3, 4)])
    record('transpose', lambda x: x.permute(2, 0, 1), [floats(2, 3, 4)], ['$0', [2, 0, 1]])
    record('transpose', lambda x: x.permute(0, 2, 3, 1), [floats(2, 3, 2, 2)], ['$0', [0, 2, -1, 1]])
    record('transpose', lambda x: x * 1, [floats(3)])
    # Each range as [start, stop, step]; numpy does the negative steps that PyTorch lacks.
    for shape, ranges in [
        ((4, 5), [[1, 3]]),
        ((4, 5), [None, [None, None, 2]]),
        ((4, 5), [-1, [1, -1]]),
        ((4, 5), [[-3, None], 2]),
        ((6,), [[None, None, -1]]),
        ((6,), [[4, None, -2]]),
        ((6,), [[-2, 0, -1]]),
        ((7, 3), [[5, 1, -3], [0, 9]]),
        ((5,), [[1, 5, 3]]),
        ((5,), [[3, 3]]),
        ((2, 3), [None, None]),
        ((9, 4), [[1, 8, 3], [None, None, -3]]),
        ((2, 3, 4), [1, [0, 2], -2]),
        ((5,), [[10, None, -2]]),
        ((3, 3), [0, 1]),
    ]:
        index = tuple(
            slice(*(r + [None] * 2)[: max(2, len(r))])
            if isinstance(r, list)
            else slice(None)
            if r is None
            else r
            for r in ranges
        )
        positions = torch.tensor(np.arange(math.prod(shape)).reshape(shape)[index].copy())
        record('slice', lambda x: x.reshape(-1)[positions], [floats(*shape)], ['$0', ranges])
    record('pad', lambda x: F.pad(x, (0, 2, 1, 0)), [floats(2, 3)], ['$0', [[1, 0], [0, 2]]])
    record('pad', lambda x: F.pad(x, (2, 1), value=-1.5), [floats(3)], ['$0', [[2, 1]], -1.5])
    record(
        'pad',
        lambda x: F.pad(x, (0, 0, 1, 1, 0, 2), value=3),
        [floats(2, 1, 2)],
        ['$0', [[0, 2], [1, 1], [0, 0]], 3],
    )
    record('pad', lambda x: F.pad(x, (1, 1), value=7), [ints([1, 2])], ['$0', [[1, 1]], 7])
    record(
        'concat',
        lambda *xs: torch.cat(xs, 1),
        [floats(2, 3), floats(2, 1), floats(2, 2)],
        [['$0', '$1', '$2'], 1],
    )
    record(
        'concat', lambda *xs: torch.cat(xs), [floats(1, 2), floats(0, 2), floats(3, 2)], [['$0', '$1', '$2']]
    )
    record(
        'concat',
        lambda a, b: torch.cat([a, b, a], -1),
        [floats(2, 2), floats(2, 1)],
        [['$0', '$1', '$0'], -1],
    )
    record('concat', lambda *xs: torch.cat(xs), [ints([1, 2]), ints([3])], [['$0', '$1']])
    for axis in [0, 1, -1]:
        record('stack', lambda *xs: torch.stack(xs, axis), [floats(2, 3), floats(2, 3)], [['$0', '$1'], axis])
    record('split', lambda x: x.split(2, 1), [floats(2, 6)], ['$0', 3, 1])
    record('split', lambda x: x.split([1, 3, 2], -1), [floats(2, 6)], ['$0', [1, 3, 2], -1])
    record('split', lambda x: x.split([2, 2]), [floats(4, 2)], ['$0', 2])
    record('tile', lambda x: x.tile(2, 3), [floats(2, 3)], ['$0', [2, 3]])
    record('tile', lambda x: x.tile(1, 2, 1), [floats(2, 1, 3)], ['$0', [1, 2, 1]])
    record('flip', lambda x: x.flip(0, 2), [floats(2, 3, 4)], ['$0', [0, 2]])
    record('flip', lambda x: x.flip(1), [floats(2, 3)], ['$0', [1]])
    record('flip', lambda x: x.flip(-1), [floats(2, 3)], ['$0', [-1]])
    for shape, target in [
        ((3,), [2, 3]),
        ((2, 1, 3), [2, 4, 3]),
        ((), [2, 2]),
        ((1, 1), [3, 2]),
        ((2, 3), [2, 3]),
        ((1, 2), [0, 2]),
    ]:
        record('broadcastTo', lambda x: x.expand(target), [floats(*shape)], ['$0', target])
    record('arange', lambda: torch.arange(5), [], [5])
    record('zeros', lambda: torch.zeros(2, 3), [], [[2, 3]])
    record('ones', lambda: torch.ones(2, 3), [], [[2, 3]])
    record('full', lambda: torch.full((2, 2), 7), [], [[2, 2], 7, 'int32'])
    record('zerosLike', torch.zeros_like, [floats(2, 3)])
    record('lowerTriangle', lambda: torch.ones(3, 4).tril(1), [], [3, 4, 1])
    record('upperTriangle', lambda: torch.ones(3, 4).triu(-1), [], [3, 4, -1])
    record('bandMask', lambda: torch.ones(4, 5).triu(-1).tril(2), [], [4, 5, 1, 2])
    record('causalMask', lambda: torch.ones(2, 4).triu(3) * -1e9, [], [2, 4])


def indexing():
    index = ints([[2, 0, 2], [1, 1, 3]])
    record('gather', lambda x, i: x[i], [floats(4, 3), index])
    record('gather', lambda x, i: x[:, i], [floats(2, 4, 2), index], ['$0', '$1', 1])
    record('gather', lambda x, i: x[..., i], [floats(2, 4), ints([3, 3, 0])], ['$0', '$1', -1])
    record('gather', lambda x, i: x[i], [floats(3, 2), ints(1)])
    record('gather', lambda x, i: x[i], [floats(4), ints([0, 3, 3])])
    record('gather', lambda x, i: x[i], [ints([5, 6, 7]), ints([2, 0])])
    record('takeAlongAxis', lambda x, i: x.gather(-1, i), [floats(2, 4), index])
    record('takeAlongAxis', lambda x, i: x.gather(0, i), [floats(4, 3), ints([[0, 3, 3]])], ['$0', '$1', 0])
    record(
        'takeAlongAxis',
        lambda x, i: x.gather(1, i),
        [floats(2, 3, 2), ints([[[0, 2]], [[1, 1]]])],
        ['$0', '$1', 1],
    )
    record(
        'scatterAdd',
        lambda i, u: torch.zeros(2, 5).scatter_add(1, i, u),
        [index, floats(2, 3)],
        ['$0', '$1', 5],
    )
    record(
        'scatterAdd',
        lambda i, u: torch.zeros(4, 3).scatter_add(0, i, u),
        [index, floats(2, 3)],
        ['$0', '$1', 4, 0],
    )
    record(
        'scatterAdd',
        lambda i, u: torch.zeros(2, 4, 2).scatter_add(1, i, u),
        [ints([[[0, 3]], [[1, 1]]]), floats(2, 1, 2)],
        ['$0', '$1', 4, 1],
    )
    for size, width in [(5, 3), (1100, 1)]:  # beyond 1024 rows Anneal scatters
        i = ints([size - 1, 0, 2, 2])
        record(
            'indexAdd',
            lambda i, u: torch.zeros(size, width).index_add(0, i, u),
            [i, floats(4, width)],
            ['$0', '$1', size],
        )
    record('oneHot', lambda i: F.one_hot(i, 4).double(), [index], ['$0', 4])
    record('oneHot', lambda i: F.one_hot(i, 3), [ints([0, 2])], ['$0', 3, 'int32'])
    record('pick', lambda x, i: x[torch.arange(3), i], [floats(3, 4), ints([3, 0, 3])])
    for axis, k, largest in [(-1, 2, True), (0, 3, False), (1, 5, True), (-1, 1, False)]:
        record('topK', lambda x: tuple(x.topk(k, axis, largest)), [apart(4, 5)], ['$0', k, axis, largest])
    record('topK', lambda x: tuple(x.topk(2)), [apart(2, 3, 4)], ['$0', 2])
    for axis, descending in [(-1, False), (0, True), (1, True)]:
        record('sort', lambda x: tuple(x.sort(axis, descending)), [apart(3, 4)], ['$0', axis, descending])
    record('sort', lambda x: tuple(x.sort()), [apart(6)])


def neural():
    big = values([[1000, 999, -1000], [-500, -500, -502], [0, 100, 0]])
    for op, f in [('softmax', F.softmax), ('logSoftmax', F.log_softmax)]:
        record(op, lambda x: f(x, -1), [floats(3, 4)])
        record(op, lambda x: f(x, 0), [floats(3, 4)], ['$0', 0])
        record(op, lambda x: f(x, 1), [floats(2, 3, 2)], ['$0', 1])
        record(op, lambda x: f(x, -1), [big])
        record(op, lambda x: f(x, -1), [floats(5)])
    targets = ints([0, 4, 2, 4])
    holes = ints([1, -1, 2, -1])
    for reduction in ['mean', 'sum', 'none']:
        record(
            'crossEntropy',
            lambda x, y: F.cross_entropy(x, y, reduction=reduction),
            [floats(4, 5), targets],
            ['$0', '$1', {'reduction': reduction}],
        )
        record(
            'crossEntropy',
            lambda x, y: F.cross_entropy(x, y, reduction=reduction, ignore_index=-1),
            [floats(4, 5), holes],
            ['$0', '$1', {'reduction': reduction, 'ignoreIndex': -1}],
        )
    record('crossEntropy', F.cross_entropy, [floats(4, 5), targets])
    record('crossEntropy', F.cross_entropy, [big, ints([2, 0, 0])])
    record(
        'crossEntropy',
        lambda x, y: F.cross_entropy(x.reshape(-1, 4), y.reshape(-1)),
        [floats(2, 3, 4), ints([[0, 1, 2], [3, 3, 0]])],
    )
    record(
        'crossEntropy',
        lambda x, y: F.cross_entropy(x, y, ignore_index=2),
        [floats(4, 5), ints([2, 1, 2, 0])],
        ['$0', '$1', {'ignoreIndex': 2}],
    )
    record(
        'crossEntropy',
        lambda x, y: (x * 0).sum(),
        [floats(2, 3), ints([-1, -1])],
        ['$0', '$1', {'ignoreIndex': -1}],
    )
    for shape in [(3, 8), (2, 3, 4), (5,)]:
        n = shape[-1]
        record('rmsNorm', lambda x, w: F.rms_norm(x, (n,), w, 1e-6), [floats(*shape), floats(n)])
        record(
            'layerNorm', lambda x, w, b: F.layer_norm(x, (n,), w, b), [floats(*shape), floats(n), floats(n)]
        )
        record(
            'l2Normalize', lambda x: x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt(), [floats(*shape)]
        )
    record('rmsNorm', lambda x, w: F.rms_norm(x, (4,), w, 0.1), [floats(3, 4), floats(4)], ['$0', '$1', 0.1])
    record(
        'layerNorm',
        lambda x, w, b: F.layer_norm(x, (4,), w, b, 0.1),
        [floats(3, 4), floats(4), floats(4)],
        ['$0', '$1', '$2', 0.1],
    )
    record(
        'l2Normalize',
        lambda x: x / (x.square().sum(0, keepdim=True) + 0.01).sqrt(),
        [floats(3, 4)],
        ['$0', 0, 0.01],
    )
    record(
        'rmsNorm',
        lambda x, w: F.rms_norm(x, (4,), w, 1e-6),
        [values([[0, 0, 0, 0], [1, 2, 3, 4]]), floats(4)],
    )

    def attend(q, k, v, mask=None, scale=None, causal=False):
        if causal and q.shape[2] != k.shape[2]:
            causal, mask = (
                False,
                torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2]),
            )
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True
            )

    for q, k, v, causal in [
        ((2, 2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4), False),
        ((2, 2, 4, 4), (2, 2, 4, 4), (2, 2, 4, 4), True),
        ((1, 4, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2), True),
        ((1, 4, 3, 2), (1, 1, 5, 2), (1, 1, 5, 3), False),
        ((1, 2, 2, 4), (1, 2, 5, 4), (1, 2, 5, 3), True),
        ((2, 2, 1, 4), (2, 2, 5, 4), (2, 2, 5, 4), True),
    ]:
        record(
            'attention',
            lambda q, k, v: attend(q, k, v, causal=causal),
            [floats(*q), floats(*k), floats(*v)],
            ['$0', '$1', '$2', {'causal': causal}],
        )
    for heads, mask in [(2, (3, 5)), (1, (2, 1, 3, 5)), (1, (1, 2, 1, 5))]:
        record(
            'attention',
            lambda q, k, v, m: attend(q, k, v, m, 0.3),
            [floats(2, 2, 3, 4), floats(2, heads, 5, 4), floats(2, heads, 5, 4), floats(*mask)],
            ['$0', '$1', '$2', {'mask': '$3', 'scale': 0.3}],
        )
    closed = values([[0, -1e9, 0], [0, 0, -1e9]])
    record(
        'attention',
        lambda q, k, v, m: attend(q, k, v, m),
        [floats(1, 1, 2, 4), floats(1, 1, 3, 4), floats(1, 1, 3, 4), closed],
        ['$0', '$1', '$2', {'mask': '$3'}],
    )

    def rotary(x, cos, sin, interleaved):
        a, b = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
        turned = [a * cos - b * sin, b * cos + a * sin]
        return torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)

    for interleaved in [False, True]:
        for shape in [(3, 4), (2, 2, 3, 6)]:
            tables = [floats(shape[-2], shape[-1] // 2), floats(shape[-2], shape[-1] // 2)]
            record(
                'rotary',
                lambda x, c, s: rotary(x, c, s, interleaved),
                [floats(*shape), *tables],
                ['$0', '$1', '$2', interleaved],
            )

    def tables(length, size, base, start):
        angles = torch.outer(torch.arange(start, start + length), base ** (-torch.arange(0, size, 2) / size))
        return angles.cos(), angles.sin()

    record('rotaryTables', lambda: tables(5, 6, 10000, 0), [], [5, 6])
    record('rotaryTables', lambda: tables(3, 4, 100, 7), [], [3, 4, 100, 7])

    def inverse(x):
        return torch.linalg.inv(x.tril(-1) + torch.eye(x.shape[-1]))

    for shape in [(5, 5), (2, 8, 8), (1, 1), (2, 3, 7, 7)]:
        record('unitTriangularInverse', inverse, [floats(*shape)])


def images():
    for options, x, w in [
        ({}, (2, 3, 7), (4, 3, 3)),
        ({'stride': 2, 'padding': 1}, (2, 3, 8), (4, 3, 3)),
        ({'dilation': 2, 'padding': 2}, (1, 2, 7), (3, 2, 3)),
        ({'groups': 2}, (1, 4, 6), (4, 2, 3)),
        ({'groups': 4, 'stride': 3}, (1, 4, 8), (4, 1, 2)),
        ({}, (2, 3, 4), (2, 3, 1)),
    ]:
        record(
            'conv1d',
            lambda x, w, b: F.conv1d(x, w, b, **options),
            [floats(*x), floats(*w), floats(w[0])],
            ['$0', '$1', {**options, 'bias': '$2'}],
        )
    for options, x, w in [
        ({}, (2, 2, 5, 4), (3, 2, 3, 2)),
        ({'stride': 2, 'padding': 1}, (1, 2, 5, 6), (2, 2, 3, 3)),
        ({'stride': [2, 1], 'dilation': [1, 2]}, (1, 2, 6, 6), (2, 2, 3, 2)),
        ({'groups': 2, 'padding': 1}, (1, 4, 4, 4), (2, 2, 3, 3)),
        ({'groups': 3, 'stride': 2}, (1, 3, 5, 5), (6, 1, 2, 2)),
        ({'padding': 'same'}, (1, 2, 4, 5), (2, 2, 3, 2)),
        ({'padding': 'same', 'dilation': 2}, (1, 1, 5, 5), (1, 1, 3, 3)),
        ({'padding': 'valid'}, (2, 3, 3, 3), (2, 3, 1, 1)),
    ]:
        record(
            'conv2d',
            lambda x, w, b: F.conv2d(x, w, b, **options),
            [floats(*x), floats(*w), floats(w[0])],
            ['$0', '$1', {**options, 'bias': '$2'}],
        )
    for op, f, x, w in [
        ('conv1d', F.conv1d, (2, 3, 7), (4, 3, 3)),
        ('conv2d', F.conv2d, (1, 2, 4, 5), (3, 2, 3, 2)),
        ('convTranspose1d', F.conv_transpose1d, (2, 3, 4), (3, 2, 3)),
        ('convTranspose2d', F.conv_transpose2d, (1, 2, 3, 2), (2, 3, 2, 3)),
    ]:
        record(op, f, [floats(*x), floats(*w)])
    record(
        'conv2d',
        lambda x, w: F.conv2d(F.pad(x, (0, 2, 1, 0)), w, stride=2),
        [floats(1, 2, 4, 5), floats(2, 2, 3, 3)],
        ['$0', '$1', {'stride': 2, 'padding': [[1, 0], [0, 2]]}],
    )
    # 'same' with a stride: outputs of size ceil(input / stride), the odd zero after.
    record(
        'conv1d',
        lambda x, w: F.conv1d(F.pad(x, (0, 1)), w, stride=2),
        [floats(1, 2, 6), floats(2, 2, 3)],
        ['$0', '$1', {'stride': 2, 'padding': 'same'}],
    )
    for options, x, w in [
        ({}, (2, 3, 4), (3, 2, 3)),
        ({'stride': 2, 'padding': 1, 'outputPadding': 1}, (1, 2, 4), (2, 3, 3)),
        ({'dilation': 2, 'groups': 2}, (1, 4, 3), (4, 2, 2)),
        ({'stride': 3}, (1, 2, 3), (2, 2, 2)),
    ]:
        named = {{'outputPadding': 'output_padding'}.get(k, k): v for k, v in options.items()}
        channels = w[1] * options.get('groups', 1)
        record(
            'convTranspose1d',
            lambda x, w, b: F.conv_transpose1d(x, w, b, **named),
            [floats(*x), floats(*w), floats(channels)],
            ['$0', '$1', {**options, 'bias': '$2'}],
        )
    for options, x, w in [
        ({}, (1, 2, 3, 2), (2, 3, 2, 3)),
        ({'stride': 2, 'padding': 1, 'outputPadding': 1}, (1, 2, 3, 3), (2, 2, 3, 3)),
        ({'stride': [1, 2], 'dilation': [2, 1], 'groups': 2}, (1, 4, 3, 2), (4, 1, 2, 2)),
    ]:
        named = {{'outputPadding': 'output_padding'}.get(k, k): v for k, v in options.items()}
        channels = w[1] * options.get('groups', 1)
        record(
            'convTranspose2d',
            lambda x, w, b: F.conv_transpose2d(x, w, b, **named),
            [floats(*x), floats(*w), floats(channels)],
            ['$0', '$1', {**options, 'bias': '$2'}],
        )
    for op, one, two in [
        ('averagePool', F.avg_pool1d, F.avg_pool2d),
        ('maxPool', F.max_pool1d, F.max_pool2d),
    ]:
        record(op, lambda x: one(x, 2), [apart(2, 2, 6)], ['$0', 2])
        record(op, lambda x: one(x, 3, 2, 1), [apart(1, 2, 7)], ['$0', 3, {'stride': 2, 'padding': 1}])
        record(op, lambda x: two(x, 2), [apart(1, 2, 4, 5)], ['$0', 2])
        record(
            op,
            lambda x: two(x, (3, 2), (1, 2), (1, 0)),
            [apart(1, 2, 4, 5)],
            ['$0', [3, 2], {'stride': [1, 2], 'padding': [[1, 1], [0, 0]]}],
        )
        record(
            op, lambda x: two(x, 3, 1, 1), [apart(2, 1, 4, 4)], ['$0', 3, {'stride': 1, 'padding': 'same'}]
        )
    record('globalAveragePool', lambda x: x.mean((2, 3)), [floats(2, 3, 2, 4)])
    record('globalAveragePool', lambda x: x.mean(2, keepdim=True), [floats(2, 3, 4)], ['$0', True])
    for x, size in [
        ((1, 2, 3, 2), [6, 4]),
        ((2, 1, 4, 5), [3, 7]),
        ((1, 1, 6, 6), [2, 3]),
        ((1, 1, 3, 3), [3, 3]),
    ]:
        record(
            'resizeNearest', lambda x: F.interpolate(x, size=size, mode='nearest'), [floats(*x)], ['$0', size]
        )
        record(
            'resizeBilinear',
            lambda x: F.interpolate(x, size=size, mode='bilinear'),
            [floats(*x)],
            ['$0', size],
        )


for group in [arithmetic, unary, reductions, products, neural]:
    group()
second = list(twice.values())
for group in [comparisons, views, indexing, images]:
    group()
for name, table in [('ops.json', entries), ('second.json', second)]:
    path = pathlib.Path(__file__).with_name(name)
    lines = ',\n'.join(json.dumps(entry, separators=(',', ':'), allow_nan=False) for entry in table)
    path.write_text(f'[\n{lines}\n]\n')
    print(
        f'{name}: {len(table)} entries, {len({e["op"] for e in table})} ops, {path.stat().st_size / 1000:.0f} kB'
    )
