"""Batched sampling in PyTorch eager with a static KV cache: `sample_torch.py JOB.json`.

The job names the model's sizes and the work: { config: { vocabulary, dim, layers, heads, kvHeads, hidden, context },
sequences, tokens, prompt, threads, repeats }. Weights are random: only the time matters. Prints one JSON object:
{ about, seconds: [...], promptSeconds: [...] }, where `seconds` are of `tokens` decoding steps of all sequences,
each followed by a draw from the softmax, and `promptSeconds` of reading prompts of `prompt` tokens.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


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


@torch.inference_mode()
def main(job):
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    c = job["config"]
    model = Model(c).eval()
    rows, prompt = job["sequences"], job["prompt"]
    d = c["dim"] // c["heads"]
    caches = [
        tuple(torch.zeros(rows, c["kvHeads"], prompt + job["tokens"], d) for _ in range(2)) for _ in model.layers
    ]
    tokens = torch.randint(c["vocabulary"], (rows, prompt))
    seconds, prompt_seconds = [], []
    for _ in range(job["repeats"] + 1):
        start = time.perf_counter()
        logits = model(tokens, caches, 0)
        middle = time.perf_counter()
        for i in range(job["tokens"]):
            drawn = torch.multinomial(F.softmax(logits, -1), 1)
            if i + 1 < job["tokens"]:
                logits = model(drawn, caches, prompt + i)
        seconds.append(time.perf_counter() - middle)
        prompt_seconds.append(middle - start)
    # The first round warms up.
    about = f"PyTorch {torch.__version__} eager, {job['threads']} threads"
    print(json.dumps({"about": about, "seconds": seconds[1:], "promptSeconds": prompt_seconds[1:]}))


main(json.loads(Path(sys.argv[1]).read_text()))
