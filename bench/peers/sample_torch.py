"""Batched sampling in PyTorch eager with a static KV cache: `sample_torch.py JOB.json`.

The job names the model's sizes and the work: { config: { vocabulary, dim, layers, heads, kvHeads, hidden, context },
sequences, tokens, threads }. Weights are random: only the time matters. Each request `sample` draws `tokens` tokens
for each of `sequences` prompts of one token, every draw from the softmax, and answers with the seconds.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from line_protocol import serve


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv = c["heads"], c["kvHeads"]
        self.d = c["dim"] // c["heads"]
        self.norm1, self.norm2 = nn.RMSNorm(c["dim"], eps=1e-5), nn.RMSNorm(c["dim"], eps=1e-5)
        self.qkv = nn.Linear(c["dim"], (self.heads + 2 * self.kv) * self.d, bias=False)
        self.o = nn.Linear(c["dim"], c["dim"], bias=False)
        self.gate_up = nn.Linear(c["dim"], 2 * c["hidden"], bias=False)
        self.down = nn.Linear(c["hidden"], c["dim"], bias=False)

    def forward(self, x, cos, sin, cache, position):
        b, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).split([self.heads * self.d, self.kv * self.d, self.kv * self.d], -1)
        q, k, v = (y.view(b, t, -1, self.d).transpose(1, 2) for y in (q, k, v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        keys, values = cache
        keys[:, :, position : position + t] = k
        values[:, :, position : position + t] = v
        # The cache is static; what is read of it is only the part that is filled.
        seen = position + t
        y = F.scaled_dot_product_attention(
            q, keys[:, :, :seen], values[:, :, :seen], is_causal=t > 1, enable_gqa=self.kv != self.heads
        )
        x = x + self.o(y.transpose(1, 2).reshape(b, t, -1))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embedding = nn.Embedding(c["vocabulary"], c["dim"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.norm = nn.RMSNorm(c["dim"], eps=1e-5)
        half = c["dim"] // c["heads"] // 2
        angles = torch.outer(torch.arange(c["context"]), 10000 ** (-torch.arange(half) / half))
        self.cos, self.sin = angles.cos(), angles.sin()

    def forward(self, tokens, caches, position):
        """Logits of the last position; `caches` is a list of (keys, values), one pair a layer."""
        x = self.embedding(tokens)
        cos, sin = (table[position : position + tokens.shape[1]] for table in (self.cos, self.sin))
        for layer, cache in zip(self.layers, caches):
            x = layer(x, cos, sin, cache, position)
        return F.linear(self.norm(x[:, -1]), self.embedding.weight)


def main(job):
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    c = job["config"]
    model = Model(c).eval()
    rows, length = job["sequences"], job["tokens"]
    d = c["dim"] // c["heads"]
    caches = [tuple(torch.zeros(rows, c["kvHeads"], length, d) for _ in range(2)) for _ in model.layers]

    @torch.inference_mode()
    def sample(_):
        drawn = torch.zeros(rows, 1, dtype=torch.int64)
        start = time.perf_counter()
        for i in range(length):
            logits = model(drawn, caches, i)
            drawn = torch.multinomial(F.softmax(logits, -1), 1)
        return {"type": "sampled", "seconds": time.perf_counter() - start}

    serve(f"PyTorch {torch.__version__} eager, static KV cache, {job['threads']} threads", {"sample": sample})


main(json.loads(Path(sys.argv[1]).read_text()))
