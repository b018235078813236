import { allocate } from '../dtype.js';
import { cloneNode, countUses, rewrite, topological } from '../graph.js';
import { type Attributes, attributesKey, isComposite } from '../op.js';
import { mul } from '../ops/elementwise.js';
import { constant, isConstant, scalar, scalarValue } from '../ops/leaf.js';
import { gemmOp, type MatmulAttributes, matmulSizes, product } from '../ops/matmul.js';
import { reshape, transpose } from '../ops/view.js';
import { sameShape, tryBroadcast } from '../shape.js';
import type { Node, Tensor } from '../tensor.js';

/** A graph-to-graph transformation that preserves values. */
export interface Pass {
  readonly name: string;
  run(roots: readonly Tensor[]): Tensor[];
}

type Rule = (node: Node, inputs: readonly Tensor[]) => readonly Tensor[] | undefined;

/** Nodes that only name or mark a value. `keepAccumulate`: micro-batches still need their markers. */
const dropMarkers =
  (keepAccumulate: boolean): Rule =>
  (node, [x]) => {
    const { name } = node.op;
    const marker =
      name === 'identity' || name === 'stopGradient' || (name === 'accumulate' && !keepAccumulate);
    return marker ? [x!] : undefined;
  };

/** Removes identities, gradient stops and (outside micro-batches) accumulation marks. */
export const markers = (keepAccumulate: boolean): Pass => ({
  name: 'markers',
  run: (roots) => rewrite(roots, dropMarkers(keepAccumulate)),
});

/** Above this many elements folding would make the model larger than the node it saves. */
const foldLimit = 1024;

const foldConstants: Rule = (node, inputs) => {
  if (
    inputs.length === 0 ||
    isComposite(node.op) ||
    ['after', 'broadcastTo'].includes(node.op.name) ||
    !inputs.every(isConstant)
  )
    return undefined;
  const small = node.outputs.every(
    (t) => t.size <= foldLimit && t.dtype !== 'float16' && t.dtype !== 'int64',
  );
  if (!small || inputs.some((t) => t.dtype === 'float16')) return undefined;
  const values = node.op.evaluate(
    inputs.map((t) => ({
      dtype: t.dtype,
      shape: t.shape,
      data: Float64Array.from(t.node.payload as Float32Array),
    })),
    node.attributes,
    node.outputs,
  );
  return node.outputs.map((t, i) => {
    const data = allocate(t.dtype, t.size);
    data.set(values[i]!);
    return constant(data, t.shape, t.dtype);
  });
};

/** Computes small nodes whose inputs are all constants. */
export const constantFolding: Pass = { name: 'constants', run: (roots) => rewrite(roots, foldConstants) };

const elementwisePairs = new Set([
  'add',
  'sub',
  'mul',
  'div',
  'pow',
  'minimum',
  'maximum',
  'equal',
  'less',
  'greater',
]);

/** A broadcast whose only effect the elementwise op after it would have anyway. */
function withoutBroadcast(node: Node, inputs: readonly Tensor[]): readonly Tensor[] | undefined {
  if (!elementwisePairs.has(node.op.name)) return undefined;
  for (const i of [0, 1]) {
    const { node: source } = inputs[i]!;
    if (source.op.name !== 'broadcastTo') continue;
    const other = inputs[1 - i]!;
    const small = source.inputs[0]!;
    const shape = tryBroadcast(small.shape, other.shape);
    if (!shape || !sameShape(shape, node.outputs[0]!.shape)) continue;
    const operands = i === 0 ? [small, other] : [other, small];
    return (node.op as unknown as { apply(x: readonly Tensor[], a: Attributes): readonly Tensor[] }).apply(
      operands,
      {},
    );
  }
  return undefined;
}

function foldScalars(node: Node, [a, b]: readonly Tensor[]): readonly Tensor[] | undefined {
  const { name } = node.op;
  if (!a || !b || !['add', 'sub', 'mul', 'div'].includes(name)) return undefined;
  const y = node.outputs[0]!;
  const [ca, cb] = [scalarValue(a), scalarValue(b)];
  if (cb === (name === 'add' || name === 'sub' ? 0 : 1) && sameShape(a.shape, y.shape)) return [a];
  if (ca === (name === 'add' ? 0 : 1) && (name === 'add' || name === 'mul') && sameShape(b.shape, y.shape))
    return [b];
  if (name !== 'mul') return undefined;
  const [factor, x] = ca !== undefined && a.rank === 0 ? [ca, b] : [cb, a];
  if (factor === undefined || (x === a && b.rank !== 0)) return undefined;
  if (x.node.op.name === 'mul') {
    const [p, q] = x.node.inputs as [Tensor, Tensor];
    const inner = scalarValue(q);
    // A product that leaves the range of float32 is not the same as two factors in turn.
    const inRange =
      inner !== undefined &&
      Number.isFinite(Math.fround(factor * inner)) &&
      Math.fround(factor * inner) !== 0;
    if (inner !== undefined && q.rank === 0 && inRange) return [mul(p, scalar(factor * inner, x.dtype))];
  }
  return undefined;
}

/** A scalar factor of an update's gradient goes into the factor that the update has anyway. */
const foldUpdateFactor: Rule = (node, inputs) => {
  if (node.op.name !== 'adamw') return undefined;
  const operands = [...inputs];
  const gradient = 3;
  const factor = 7;
  for (;;) {
    const source = operands[gradient]!.node;
    if (source.op.name !== 'mul') break;
    const at = source.inputs.findIndex((t) => t.rank === 0);
    const other = source.inputs[1 - at];
    if (at < 0 || !other || !sameShape(other.shape, operands[gradient]!.shape)) break;
    operands[factor] = mul(operands[factor]!, source.inputs[at]!);
    operands[gradient] = other;
  }
  return operands[gradient] === inputs[gradient] ? undefined : cloneNode(node, operands).outputs;
};

/** Axes of size 1 may be anywhere: a transpose that moves only those moves no data. */
function transposeOfOnes(node: Node, x: Tensor): readonly Tensor[] | undefined {
  const permutation = node.attributes.permutation as readonly number[];
  const moved = permutation.filter((axis) => x.shape[axis] !== 1);
  const inOrder = moved.every((axis, i) => i === 0 || axis > moved[i - 1]!);
  return inOrder ? [reshape(x, node.outputs[0]!.shape)] : undefined;
}

const viewRules: Rule = (node, [x]) => {
  const source = x?.node;
  if (node.op.name === 'reshape') {
    if (sameShape(x!.shape, node.outputs[0]!.shape)) return [x!];
    if (source!.op.name === 'reshape') return [reshape(source!.inputs[0]!, node.outputs[0]!.shape)];
  }
  if (node.op.name === 'transpose') {
    const flat = transposeOfOnes(node, x!);
    if (flat) return flat;
  }
  if (node.op.name === 'transpose' && source!.op.name === 'transpose') {
    const outer = node.attributes.permutation as readonly number[];
    const inner = source!.attributes.permutation as readonly number[];
    return [
      transpose(
        source!.inputs[0]!,
        outer.map((axis) => inner[axis]!),
      ),
    ];
  }
  if (node.op.name === 'neg' && source!.op.name === 'neg') return [source!.inputs[0]!];
  return undefined;
};

/** Drops arithmetic with neutral scalars, chains of factors, views of views and superfluous broadcasts. */
export const algebra: Pass = {
  name: 'algebra',
  run: (roots) =>
    rewrite(
      roots,
      (node, inputs) =>
        viewRules(node, inputs) ??
        foldScalars(node, inputs) ??
        foldUpdateFactor(node, inputs) ??
        withoutBroadcast(node, inputs),
    ),
};

const swapsLastTwo = (node: Node): boolean => {
  if (node.op.name !== 'transpose') return false;
  const permutation = node.attributes.permutation as readonly number[];
  const n = permutation.length;
  return permutation.every((axis, i) => axis === (i === n - 2 ? n - 1 : i === n - 1 ? n - 2 : i));
};

const foldTransposes: Rule = (node, inputs) => {
  if (node.op.name !== 'matmul') return undefined;
  const attributes = node.attributes as MatmulAttributes;
  const turned = inputs.map((t) => swapsLastTwo(t.node));
  if (!turned.some(Boolean)) return undefined;
  const operands = inputs.map((t, i) => (turned[i] ? t.node.inputs[0]! : t)) as [Tensor, Tensor];
  return [
    product(operands[0], operands[1], {
      transA: attributes.transA !== turned[0],
      transB: attributes.transB !== turned[1],
      alpha: attributes.alpha,
    }),
  ];
};

/** Folds transposes of the last two axes, and scalar factors of products used once, into the products. */
export const matmulLayout: Pass = {
  name: 'layout',
  run(roots) {
    const uses = countUses(roots, topological(roots));
    const turned = rewrite(roots, (node, inputs) => {
      const folded = foldTransposes(node, inputs);
      if (folded || node.op.name !== 'mul') return folded;
      const at = node.inputs.findIndex((t) => t.node.op.name === 'matmul' && uses.get(t) === 1);
      if (at < 0 || inputs[at]!.node.op.name !== 'matmul') return undefined;
      const other = inputs[1 - at]!;
      const factor = other.rank === 0 ? scalarValue(other) : undefined;
      if (factor === undefined) return undefined;
      const { inputs: operands, attributes } = inputs[at]!.node;
      const { alpha } = attributes as MatmulAttributes;
      return [
        product(operands[0]!, operands[1]!, { ...(attributes as MatmulAttributes), alpha: alpha * factor }),
      ];
    });
    return turned;
  },
};

/** `c` as the addend of a product with `m` rows (all axes but the last) and `n` columns, or undefined. */
function addend(c: Tensor, y: Tensor): Tensor | undefined {
  const n = y.shape.at(-1)!;
  if (sameShape(c.shape, y.shape)) return reshape(c, [-1, n]);
  if (c.rank === 1 && c.shape[0] === n) return c;
  return undefined;
}

/** Merges an addition into the matrix product before it where the product is used once. */
export const gemm: Pass = {
  name: 'gemm',
  run(roots) {
    const uses = countUses(roots, topological(roots));
    return rewrite(roots, (node, inputs) => {
      if (node.op.name !== 'add' || node.outputs[0]!.dtype !== 'float32') return undefined;
      for (const i of [1, 0]) {
        let matrix = inputs[i]!;
        const original = node.inputs[i]!;
        const behind = original.node.op.name === 'reshape' ? original.node.inputs[0]! : original;
        if (uses.get(original) !== 1 || uses.get(behind) !== 1) continue;
        // A product may hide behind the reshape that an earlier rule made of it.
        if (matrix.node.op.name === 'reshape') matrix = matrix.node.inputs[0]!;
        const source = matrix.node;
        if (source.op.name !== 'matmul' || source.inputs[1]!.rank !== 2) continue;
        const [a, b] = source.inputs as [Tensor, Tensor];
        const attributes = source.attributes as MatmulAttributes;
        if (a.rank !== 2 && attributes.transA) continue;
        const y = node.outputs[0]!;
        if (!sameShape(inputs[i]!.shape, y.shape) || inputs[i]!.shape.at(-1) !== matrix.shape.at(-1))
          continue;
        const [m, k, , n] = matmulSizes(a.shape, b.shape, attributes);
        if (m * k * n === 0) continue;
        const c = addend(inputs[1 - i]!, y);
        if (!c) continue;
        const left = attributes.transA ? a : reshape(a, [-1, k]);
        return [reshape(gemmOp.apply([left, b, c], attributes)[0]!, y.shape)];
      }
      return undefined;
    });
  },
};

/** Tells -0 from 0, which division does too. */
const numbersKey = (data: ArrayLike<number>): string =>
  Array.from(data, (v) => (Object.is(v, -0) ? '-0' : v)).join();

/** Makes equal nodes one. Nodes copied for recomputation equal only copies of the same recomputation. */
export const commonSubexpressions: Pass = {
  name: 'common',
  run(roots) {
    const ids = new Map<Tensor, number>();
    const known = new Map<string, Node>();
    const id = (t: Tensor) => {
      let found = ids.get(t);
      if (found === undefined) {
        found = ids.size;
        ids.set(t, found);
      }
      return found;
    };
    return rewrite(roots, (node, inputs) => {
      if (inputs.length === 0 && !(isConstant(node.outputs[0]!) && node.outputs[0]!.size <= 64))
        return undefined;
      const data = inputs.length === 0 ? `:${numbersKey(node.payload as Float32Array)}` : '';
      const key = `${node.op.name}${node.recompute}(${inputs.map(id)})${attributesKey(node.attributes)}${data}`;
      const found = known.get(key);
      if (found) return found.outputs;
      const same = inputs.every((t, i) => t === node.inputs[i]);
      const kept = same ? node : cloneNode(node, inputs);
      known.set(key, kept);
      return kept.outputs;
    });
  },
};
