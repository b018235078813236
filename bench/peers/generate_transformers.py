"""Generation by Hugging Face transformers on PyTorch: `generate_transformers.py JOB.json`.

The job is { model: a .gguf file, threads }; the weights are float32 after dequantisation. A request `generate`
continues `prompts`, all of one length, by `tokens` tokens each, greedily, with transformers' default cache, and answers
with the seconds until the first tokens are there and those of the rest.
"""

import json
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from line_protocol import serve

logging.set_verbosity_error()
logging.disable_progress_bar()


def main(job):
    torch.set_num_threads(job["threads"])
    file = Path(job["model"])
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()

    @torch.inference_mode()
    def generate(request):
        tokens = torch.tensor(request["prompts"])
        start = time.perf_counter()
        out = model(tokens, use_cache=True, logits_to_keep=1)
        drawn = out.logits[:, -1].argmax(-1, keepdim=True)
        first = time.perf_counter()
        for _ in range(request["tokens"] - 1):
            out = model(drawn, past_key_values=out.past_key_values, use_cache=True)
            drawn = out.logits[:, -1].argmax(-1, keepdim=True)
        return {"type": "generated", "promptSeconds": first - start, "decodeSeconds": time.perf_counter() - first}

    serve(
        f"transformers {transformers.__version__} on PyTorch {torch.__version__}, float32, {job['threads']} threads",
        {"generate": generate},
    )


main(json.loads(Path(sys.argv[1]).read_text()))
