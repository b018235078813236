"""Causal attention with rotary positions in PyTorch, forward and backward: `attention_torch.py JOB.json`.

The job names { heads, d, lengths, threads }. Request `passes` with a `length` runs scaled_dot_product_attention of rotated
queries and keys and the gradients of q, k and v, and answers with the median milliseconds.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from line_protocol import serve


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def main(job):
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    d = job["d"]

    def operands(length):
        shape = (1, job["heads"], length, d)
        q, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))
        angles = torch.outer(torch.arange(length), 10000 ** (-torch.arange(d // 2) / (d // 2)))
        return q, k, v, torch.randn(shape), angles.cos(), angles.sin()

    kept = {length: operands(length) for length in job["lengths"]}

    def passes(request):
        length = request["length"]
        q, k, v, g, cos, sin = kept[length]
        times = []
        for _ in range(max(2, round(8 * 512 / length))):
            start = time.perf_counter()
            y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
            torch.autograd.grad(y, (q, k, v), g)
            times.append(1e3 * (time.perf_counter() - start))
        return {"type": "timed", "figures": {f"sdpa-{length}": statistics.median(times)}}

    serve(f"PyTorch {torch.__version__}, {job['threads']} threads", {"passes": passes})


main(json.loads(Path(sys.argv[1]).read_text()))
