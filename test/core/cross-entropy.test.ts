import { describe, expect, it } from 'vitest';
import { makeNode } from '../../src/core/op.js';
import { inputOp } from '../../src/core/ops/leaf.js';
import { crossEntropy, grad, int32, program, Rng, type Tensor } from '../../src/index.js';
import { buildModel } from '../../src/onnx/graph.js';

const input = (name: string, dtype: 'float32' | 'int32', shape: number[]): Tensor =>
  makeNode(inputOp as never, [], { dtype, shape }, { payload: name }).outputs[0]!;

describe('the gradient of cross-entropy over a wide vocabulary', () => {
  it('makes no tensor of that width besides the log-probabilities and itself', () => {
    const logits = input('logits', 'float32', [4, 49152]);
    const targets = input('targets', 'int32', [4]);
    const gradient = grad(crossEntropy(logits, targets), logits);
    const inputs = [
      { name: 'logits', tensor: logits },
      { name: 'targets', tensor: targets },
    ];
    const { model } = buildModel(inputs, [{ name: 'gradient', tensor: gradient }], 'ort');
    const ops = [...model.graph.nodes, ...(model.functions ?? []).flatMap((f) => f.nodes)].map(
      ({ op }) => op,
    );
    // A subtraction, a one-hot matrix or a scatter into zeros would each need another one.
    expect(ops.filter((op) => ['Sub', 'OneHot', 'Where', 'Softmax'].includes(op))).toEqual([]);
    // This one spreads the gradient of the mean over the rows.
    expect(ops.filter((op) => op === 'Expand')).toHaveLength(1);
    expect(ops.filter((op) => op === 'ScatterElements')).toHaveLength(1);
  });

  it('is softmax minus one-hot over the number of rows', async () => {
    const [n, v] = [3, 49152];
    const rng = new Rng(1);
    const [logits, targets] = [rng.normal(n * v, 0, 2), rng.integers(n, 0, v)];
    const run = program({ x: [n, v], t: int32([n]) }, ({ x, t }) => ({ g: grad(crossEntropy(x, t), x) }));
    const { g } = await run({ x: logits, t: targets });
    run.dispose();
    for (let row = 0; row < n; row++) {
      const part = Float64Array.from(logits.subarray(row * v, (row + 1) * v), Math.exp);
      const total = part.reduce((s, e) => s + e, 0);
      let worst = 0;
      part.forEach((e, i) => {
        const want = (e / total - (i === targets[row] ? 1 : 0)) / n;
        worst = Math.max(worst, Math.abs(g.data[row * v + i]! - want));
      });
      expect(worst).toBeLessThan(1e-7);
    }
  });
});
