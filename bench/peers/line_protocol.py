"""The child's half of bench/protocol.ts: one JSON object a line, requests on stdin, replies on stdout."""

import json
import sys


def reply(**message):
    print(json.dumps(message), flush=True)


def serve(about, operations):
    """Says that it is ready, then answers requests until `stop`. `operations` maps each `op` to a function of the
    request that returns the answer."""
    reply(type="ready", about=about)
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "stop":
            return
        reply(**operations[request["op"]](request))
