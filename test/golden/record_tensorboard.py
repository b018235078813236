"""Records TensorBoard event records, written by the tensorboard package, into tensorboard.json.

Run from the repository root, in an environment with the package (pip install tensorboard==2.21.0):

    python test/golden/record_tensorboard.py

With the path of an event file as argument it prints instead what TensorBoard's own reader finds in it, as JSON.
"""

import io
import json
import pathlib
import sys

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter


def scalars(values):
    return summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    )


def record():
    time = 1764000000.125
    cases = [
        ({"fileVersion": "brain.Event:2", "step": 0}, event_pb2.Event(wall_time=time, file_version="brain.Event:2")),
        ({"scalars": {"train/loss": 2.5}, "step": 1}, event_pb2.Event(wall_time=time, step=1, summary=scalars({"train/loss": 2.5}))),
        (
            {"scalars": {"train/loss": 0.1, "train/lr": 3e-4, "größe": -7.0}, "step": 300},
            event_pb2.Event(wall_time=time, step=300, summary=scalars({"train/loss": 0.1, "train/lr": 3e-4, "größe": -7.0})),
        ),
        ({"scalars": {"a" * 200: 0.0}, "step": 5_000_000_000}, event_pb2.Event(wall_time=time, step=5_000_000_000, summary=scalars({"a" * 200: 0.0}))),
        (
            {"isSessionStart": True, "step": 41},
            event_pb2.Event(wall_time=time, step=41, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)),
        ),
    ]
    out = []
    for event, proto in cases:
        stream = io.BytesIO()
        RecordWriter(stream).write(proto.SerializeToString(deterministic=True))
        out.append({"event": {"wallTime": time, **event}, "record": stream.getvalue().hex()})
    path = pathlib.Path(__file__).parent / "tensorboard.json"
    path.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(out)} records in {path}")


def read(file):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(file)
    accumulator.Reload()
    found = {
        tag: [[e.step, e.value] for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }
    print(json.dumps(found))


if len(sys.argv) > 1:
    read(sys.argv[1])
else:
    record()
