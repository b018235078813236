import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, floats } from '../op.js';
import { sameShape, sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add, cast, div, equal, exp, logicalNot, maximum, mul, neg, sub, where } from './elementwise.js';
import { scatterAdd, takeAlongAxis } from './indexing.js';
import { mean, sum } from './reduce.js';
import { logSoftmax } from './softmax.js';
import { expandDims, reshape } from './view.js';

type CrossEntropyAttributes = { ignoreIndex: number | undefined };

/** Rows' losses, and the log-probabilities that the gradient needs. */
const crossEntropyOp = defineOp<CrossEntropyAttributes>({
  name: 'crossEntropy',
  infer([logits, targets]) {
    checkDTypes([logits!], floats);
    if (targets!.dtype !== 'int32') throw new AnnealError(`targets are ${targets!.dtype}, not int32`);
    if (logits!.shape.length !== 2 || !sameShape(logits!.shape.slice(0, 1), targets!.shape)) {
      throw new AnnealError('needs logits [n, classes] and targets [n]');
    }
    return [{ dtype: logits!.dtype, shape: targets!.shape }, logits!];
  },
  flops: (_inputs, _attributes, [, p]) => 5 * sizeOf(p!.shape),
  decompose([logits, targets], { ignoreIndex }) {
    const lp = logSoftmax(logits!, -1);
    if (ignoreIndex === undefined) {
      return [neg(reshape(takeAlongAxis(lp, expandDims(targets!, -1), -1), targets!.shape)), lp];
    }
    const ignored = equal(targets!, ignoreIndex);
    const safe = where(ignored, 0, targets!);
    const picked = reshape(takeAlongAxis(lp, expandDims(safe, -1), -1), targets!.shape);
    return [where(ignored, 0, neg(picked)), lp];
  },
  vjp({ inputs: [, targets], outputs: [, lp], attributes: { ignoreIndex } }, [g, glp]) {
    let toLogits: Tensor | undefined;
    if (g) {
      const ignored = ignoreIndex === undefined ? undefined : equal(targets!, ignoreIndex);
      const rows = ignored ? where(ignored, 0, g) : g;
      const safe = ignored ? where(ignored, 0, targets!) : targets!;
      toLogits = crossEntropyGradOp.apply([lp!, safe, rows], {})[0]!;
    }
    if (glp) {
      const through = sub(glp, mul(exp(lp!), sum(glp, -1, true)));
      toLogits = toLogits ? add(toLogits, through) : through;
    }
    return [toLogits];
  },
  cases: [
    {
      inputs: [[3, 5], { shape: [3], dtype: 'int32', values: [0, 4, 2] }],
      attributes: { ignoreIndex: undefined },
    },
    {
      inputs: [[4, 3], { shape: [4], dtype: 'int32', values: [2, -1, 0, -1] }],
      attributes: { ignoreIndex: -1 },
    },
  ],
});

/**
 * rows · (softmax - one-hot) from log-probabilities. With a wide vocabulary this is the largest tensor of a training
 * step, so its lowering makes no second one: every node works in place on the memory of the first.
 */
const crossEntropyGradOp = defineOp({
  name: 'crossEntropyGrad',
  infer: ([lp]: readonly TensorType[]) => [lp!],
  flops: (_inputs, _attributes, [y]) => 2 * sizeOf(y!.shape),
  decompose([lp, targets, rows]: readonly Tensor[]) {
    const column = expandDims(rows!, -1);
    const hot = scatterAdd(expandDims(targets!, -1), column, lp!.shape[1]!, -1);
    return [sub(mul(exp(lp!), column), hot)];
  },
  lower(b) {
    const [lp, targets, rows] = b.inputs as [string, string, string];
    const column = b.emit('Unsqueeze', [rows, b.ints([1])]);
    const scaled = b.emit('Mul', [b.emit('Exp', [lp]), column]);
    const index = b.emit('Unsqueeze', [targets, b.ints([1])]);
    b.result('ScatterElements', [scaled, index, b.emit('Neg', [column])], { axis: 1, reduction: 'add' });
    return true;
  },
  cases: [
    {
      inputs: [{ shape: [3, 5], low: -3, high: 0 }, { shape: [3], dtype: 'int32', values: [0, 4, 2] }, [3]],
    },
  ],
});

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions {
  /** Targets with this value count neither in the sum nor in the mean. */
  ignoreIndex?: number;
  /** `mean` (default) over the targets that count, their `sum`, or the loss of each. */
  reduction?: 'mean' | 'sum' | 'none';
}

/**
 * Cross-entropy in nats between logits [..., classes] and int32 class numbers [...].
 * With every target ignored the mean is 0.
 */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { ignoreIndex, reduction = 'mean' } = options;
  const flat = reshape(logits, [-1, logits.shape.at(-1)!]);
  const index = reshape(targets, [-1]);
  const rows = crossEntropyOp.apply([flat, index], { ignoreIndex })[0]!;
  if (reduction === 'none') return reshape(rows, targets.shape);
  if (reduction === 'sum') return sum(rows);
  if (ignoreIndex === undefined) return mean(rows);
  const counted = sum(cast(logicalNot(equal(index, ignoreIndex)), rows.dtype));
  return div(sum(rows), maximum(counted, 1));
}
