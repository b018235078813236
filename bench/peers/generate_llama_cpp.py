"""Generation and perplexity by llama.cpp, through llama-cpp-python: `generate_llama_cpp.py JOB.json`.

The job is { model: a .gguf file, context, threads }. A request `generate` continues the one prompt of `prompts` by
`tokens` tokens, greedily, and answers with the seconds until the first token is there and those of the rest.
`perplexity` answers with the mean negative log-likelihood, in nats, of all tokens of each window but its first.
"""

import json
import sys
import time
from pathlib import Path

import llama_cpp
import numpy as np

from line_protocol import serve


def main(job):
    common = dict(model_path=job["model"], n_ctx=job["context"], n_batch=512, verbose=False)
    threads = dict(n_threads=job["threads"], n_threads_batch=job["threads"])
    model = llama_cpp.Llama(**common, **threads)
    vocabulary = model.n_vocab()

    def argmax():
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, (vocabulary,)).argmax())

    def generate(request):
        (prompt,) = request["prompts"]
        model.reset()
        start = time.perf_counter()
        model.eval(prompt)
        drawn = argmax()
        first = time.perf_counter()
        for _ in range(request["tokens"] - 1):
            model.eval([drawn])
            drawn = argmax()
        return {"type": "generated", "promptSeconds": first - start, "decodeSeconds": time.perf_counter() - first}

    def perplexity(request):
        scorer = llama_cpp.Llama(**common, **threads, logits_all=True)
        total, count = 0.0, 0
        for window in request["windows"]:
            scorer.reset()
            scorer.eval(window)
            logits = scorer.scores[: len(window) - 1].astype(np.float64)
            targets = logits[np.arange(len(window) - 1), window[1:]]
            top = logits.max(-1)
            total += float((top + np.log(np.exp(logits - top[:, None]).sum(-1)) - targets).sum())
            count += len(window) - 1
        return {"type": "scored", "nats": total / count}

    about = f"llama.cpp (llama-cpp-python {llama_cpp.__version__}), {job['threads']} threads"
    serve(about, {"generate": generate, "perplexity": perplexity})


main(json.loads(Path(sys.argv[1]).read_text()))
