// Runs a model with the official binding of ONNX Runtime: in a process of its own, since there is one environment per
// process. Reads { model, runs: [{ name: { type, dims, data } }] } as JSON and writes each run's outputs.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { InferenceSession, Tensor } = createRequire(import.meta.url)('onnxruntime-node');
const { model, runs } = JSON.parse(readFileSync(0, 'utf8'));
const session = await InferenceSession.create(model);
const results = [];
for (const feeds of runs) {
  const tensors = {};
  for (const [name, feed] of Object.entries(feeds)) {
    // `{ from, output }` is an output of an earlier run.
    const source = 'from' in feed ? results[feed.from][feed.output] : feed;
    const { type, dims, data } = source;
    const array =
      type === 'int64'
        ? BigInt64Array.from(data, BigInt)
        : (type === 'int32' ? Int32Array : Float32Array).from(data);
    tensors[name] = new Tensor(type, array, dims);
  }
  const outputs = await session.run(tensors);
  results.push(
    Object.fromEntries(
      Object.entries(outputs).map(([name, t]) => [
        name,
        { type: t.type, dims: t.dims, data: Array.from(t.data, Number) },
      ]),
    ),
  );
}
process.stdout.write(
  JSON.stringify({ inputs: session.inputMetadata, outputs: session.outputMetadata, results }),
);
