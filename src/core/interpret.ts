import type { TypedArray } from './dtype.js';
import { AnnealError } from './errors.js';
import { fromFloat16 } from './float16.js';
import { topological } from './graph.js';
import { type HostValue, isComposite } from './op.js';
import type { Node, Tensor } from './tensor.js';

/** What the leaves are worth: data of `input` leaves, and of variables where it differs from their own. */
export type Feeds = ReadonlyMap<Tensor, ArrayLike<number>>;

function leafData(t: Tensor, feeds: Feeds): Float64Array {
  const fed = feeds.get(t);
  if (fed) return Float64Array.from(fed);
  const { op, payload } = t.node;
  // A Uint16Array holds the bits of float16.
  const numbers = (data: TypedArray) =>
    Float64Array.from(data instanceof Uint16Array ? fromFloat16(data) : data);
  if (op.name === 'constant') return numbers(payload as TypedArray);
  if (op.name === 'variable') return numbers((payload as { data: TypedArray }).data);
  throw new AnnealError(
    `input "${String(payload)}" has no value outside a program; pass it through the program's inputs`,
  );
}

function evaluateNode(node: Node, values: Map<Tensor, HostValue>, feeds: Feeds): void {
  const { op, attributes } = node;
  let results: readonly ArrayLike<number>[];
  if (node.inputs.length === 0) results = [leafData(node.outputs[0]!, feeds)];
  else if (isComposite(op)) {
    evaluateInto(op.decompose(node.inputs, attributes), values, feeds).forEach((value, i) => {
      values.set(node.outputs[i]!, value);
    });
    return;
  } else {
    const inputs = node.inputs.map((t) => values.get(t)!);
    results = op.evaluate(inputs, attributes, node.outputs);
  }
  node.outputs.forEach((t, i) => {
    const data = results[i]!;
    const array = data instanceof Float64Array ? data : Float64Array.from(data);
    values.set(t, { dtype: t.dtype, shape: t.shape, data: array });
  });
}

function evaluateInto(roots: readonly Tensor[], values: Map<Tensor, HostValue>, feeds: Feeds): HostValue[] {
  for (const node of topological(roots)) {
    if (!node.outputs.every((t) => values.has(t))) evaluateNode(node, values, feeds);
  }
  return roots.map((t) => values.get(t)!);
}

/**
 * The reference interpreter: values of `roots` in float64, node by node, without any runtime. Slow and
 * exact: the oracle of the tests, and the evaluator of constant folding.
 */
export function interpret(roots: readonly Tensor[], feeds: Feeds = new Map()): HostValue[] {
  return evaluateInto(roots, new Map(), feeds);
}
