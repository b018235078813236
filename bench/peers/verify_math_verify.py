"""Math-Verify on pairs of a reference and an answer: `verify_math_verify.py JOB.json`.

The job is { items: [{ gold, answer, expected }] }. A request `verify` verifies all of them, as the library's README shows it (a
reference that is a bare formula is put between dollars), and answers with the seconds that it took and with how many
verdicts are as expected.
"""

import json
import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path

from math_verify import parse, verify

from line_protocol import serve

logging.disable(logging.CRITICAL)


def main(job):
    items = job["items"]

    def bare(text):
        return text if "$" in text or "\\boxed" in text or "####" in text or len(text) > 300 else f"${text}$"

    def is_right(gold, answer):
        return verify(parse(bare(gold)), parse(bare(answer)))

    def run(_request):
        start = time.perf_counter()
        agreed = sum(is_right(one["gold"], one["answer"]) == one["expected"] for one in items)
        return {"type": "verified", "seconds": time.perf_counter() - start, "agreed": agreed}

    # The first call of each parser loads its grammar.
    is_right("1", "\\boxed{1}")
    serve(f"Math-Verify {version('math-verify')}", {"verify": run})


main(json.loads(Path(sys.argv[1]).read_text()))
