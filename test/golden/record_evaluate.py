"""Log-likelihoods, picks and perplexities of tiny-llama/ as lm-evaluation-harness and transformers compute them.

    python test/golden/record_evaluate.py     writes evaluate.json beside this file

Needs torch, transformers and lm_eval; recorded with 2.15.0, 5.24.0 and 0.4.13.
"""

import json
from pathlib import Path

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

here = Path(__file__).parent
model = AutoModelForCausalLM.from_pretrained(here / "tiny-llama").float().eval()
tokenizer = AutoTokenizer.from_pretrained(here / "tiny-llama")
lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=128)

ITEMS = [
    ("The cat sat on the", [" mat", " dog", " park and the cat"]),
    ("The cat sat on the ", ["mat", "dog"]),
    ("Question: What is 12 plus 30?\nAnswer:", [" 42", " 7", " forty-two", " n\u00e4\u00efve \U0001f600"]),
    ("Paris is the capital of", [" France", " Italy", " Rome"]),
    ("", ["The cat", "Rome is", "?"]),
    ("There are seven\n\n", ["apples", "pears and apples"]),
]


def choices():
    rows = []
    for context, options in ITEMS:
        requests = [Instance("loglikelihood", {}, (context, option), i) for i, option in enumerate(options)]
        lls = np.array([ll for ll, _ in lm.loglikelihood(requests, disable_tqdm=True)])
        rows.append({
            "context": context,
            "choices": options,
            "logprobs": lls.tolist(),
            # As lm_eval.api.task.ConfigurableTask.process_results.
            "raw": int(np.argmax(lls)),
            "perCharacter": int(np.argmax(lls / np.array([float(len(o)) for o in options]))),
            "perByte": int(np.argmax(lls / np.array([float(len(o.encode("utf-8"))) for o in options]))),
        })
    return rows


def windows(ids, context, stride):
    """The loop of https://huggingface.co/docs/transformers/perplexity, but with the sum over scored tokens: the page
    multiplies a window's mean by one token too few where the window's first label is masked anyway."""
    total, count, previous = 0.0, 0, 0
    for begin in range(0, ids.size(1), stride):
        end = min(begin + context, ids.size(1))
        target_length = end - previous
        inputs = ids[:, begin:end]
        targets = inputs.clone()
        targets[:, :-target_length] = -100
        with torch.no_grad():
            logits = model(inputs).logits[:, :-1]
        total += torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.size(-1)), targets[:, 1:].reshape(-1), ignore_index=-100, reduction="sum"
        ).item()
        count += int((targets[:, 1:] != -100).sum())
        previous = end
        if end == ids.size(1):
            break
    return {"context": context, "stride": stride, "tokens": count, "nats": total / count}


def perplexities():
    torch.manual_seed(3)
    ids = torch.randint(0, 300, (1, 203))
    settings = [(128, 64), (32, 32), (32, 31), (50, 7), (128, 128), (16, 1), (101, 101), (101, 51)]
    return {"tokens": ids[0].tolist(), "rows": [windows(ids, *s) for s in settings]}


def greedy():
    rows = []
    for i, question in enumerate(["What is 12 plus 30?", "The cat sat on", "Paris", "apples and pears", "yes or no"]):
        chat = i % 2 == 0
        messages = [{"role": "user", "content": question}]
        ids = (
            tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
            if chat
            else tokenizer(question)["input_ids"]
        )
        out = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=2, pad_token_id=0)
        new = out[0, len(ids):].tolist()
        rows.append({"question": question, "chat": chat, "tokens": new,
                     "text": tokenizer.decode(new, skip_special_tokens=True)})
    return rows


json.dump(
    {
        "choices": choices(),
        "perplexity": perplexities(),
        "greedy": greedy(),
    },
    open(here / "evaluate.json", "w"),
    indent=1,
)
print(json.dumps(greedy()), perplexities()["rows"])
