"""GRPO by TRL on PyTorch, with transformers' own generation: `grpo_trl.py JOB.json`.

The job names the model's sizes and the work: { config: { vocabulary, dim, layers, heads, hidden, context }, prompts,
promptLength, samples, tokens, learningRate, threads }. Weights are random. A request `train` runs `steps` whole steps
(rollouts, rewards, one update) and answers with the seconds. The trainer owns the loop, so requests are read in its
callback, between two steps.
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

import datasets
import torch
import transformers
import trl
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from transformers.utils import logging

from line_protocol import reply

logging.set_verbosity_error()
logging.disable_progress_bar()
datasets.disable_progress_bars()


def make_tokenizer(vocabulary):
    """A word per id; the end of a text lies behind the model's vocabulary, so that every completion has its full length."""
    words = {f"w{i}": i for i in range(vocabulary)} | {"<end>": vocabulary}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<end>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", padding_side="left")


def make_model(c):
    config = LlamaConfig(
        vocab_size=c["vocabulary"],
        hidden_size=c["dim"],
        intermediate_size=c["hidden"],
        num_hidden_layers=c["layers"],
        num_attention_heads=c["heads"],
        max_position_embeddings=c["context"],
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def make_prompts(job, count):
    draw = random.Random(1)
    word = lambda: f"w{draw.randrange(job['config']['vocabulary'])}"
    return datasets.Dataset.from_list(
        [{"prompt": " ".join(word() for _ in range(job["promptLength"]))} for _ in range(count)]
    )


class Turns(TrainerCallback):
    """Lets the trainer take as many steps as are asked for, then waits for the next request."""

    def __init__(self):
        self.left = 0

    def wait(self):
        request = json.loads(sys.stdin.readline() or '{"op": "stop"}')
        if request["op"] == "stop":
            sys.exit()
        self.left = request["steps"]
        self.start = time.perf_counter()

    def on_train_begin(self, *_, **__):
        self.wait()

    def on_step_end(self, *_, **__):
        self.left -= 1
        if self.left == 0:
            reply(type="trained", seconds=time.perf_counter() - self.start)
            self.wait()


def main(job, folder):
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    model = make_model(job["config"])
    vocabulary, rows = job["config"]["vocabulary"], job["prompts"] * job["samples"]

    def reward(completion_ids, **_):
        short = [ids for ids in completion_ids if len(ids) != job["tokens"]]
        if short:
            raise ValueError(f"a completion has {len(short[0])} tokens instead of {job['tokens']}")
        return [sum(ids) / (len(ids) * vocabulary) for ids in completion_ids]

    args = trl.GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=rows,
        num_generations=job["samples"],
        max_completion_length=job["tokens"],
        max_steps=1_000_000,
        learning_rate=job["learningRate"],
        lr_scheduler_type="constant",
        beta=0.0,
        # What costs time for the sake of memory, or needs another device.
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        dataloader_num_workers=0,
        report_to="none",
        save_strategy="no",
        logging_steps=1_000_000,
        disable_tqdm=True,
    )
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=args,
        train_dataset=make_prompts(job, 1024),
        processing_class=make_tokenizer(vocabulary),
        callbacks=[Turns()],
    )
    count = sum(p.numel() for p in model.parameters())
    about = f"TRL {trl.__version__}, transformers {transformers.__version__} on PyTorch {torch.__version__} eager"
    reply(type="ready", about=f"{about}, {job['threads']} threads", parameters=count)
    trainer.train()


with tempfile.TemporaryDirectory() as folder:
    main(json.loads(Path(sys.argv[1]).read_text()), folder)
