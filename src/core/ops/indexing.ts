import { type DType, dtypes } from '../dtype.js';
import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, numbers } from '../op.js';
import { formatShape, normalizeAxis, sizeOf, stridesOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { constant } from './leaf.js';
import { expandDims, reshape, transpose } from './view.js';

function checkIndex(index: TensorType): void {
  if (index.dtype !== 'int32')
    throw new AnnealError(`indices are ${index.dtype}, not int32; convert them with cast()`);
}

/** Int32 constant 0, 1, …, n-1. */
export const arange = (n: number): Tensor =>
  constant(
    Int32Array.from({ length: n }, (_, i) => i),
    [n],
    'int32',
  );

const gatherOp = defineOp<{ axis: number }>({
  name: 'gather',
  flops: () => 0,
  infer([x, index], { axis }) {
    checkIndex(index!);
    return [
      { dtype: x!.dtype, shape: [...x!.shape.slice(0, axis), ...index!.shape, ...x!.shape.slice(axis + 1)] },
    ];
  },
  vjp({ inputs: [x, index], attributes: { axis } }, [g]) {
    if (!g) return [];
    const count = index!.size;
    const before = x!.shape.slice(0, axis);
    const after = x!.shape.slice(axis + 1);
    // Bring the indexed axis to the front: rows to add, [count, everything else].
    const outer = sizeOf(before);
    const rows = transpose(reshape(g, [outer, count, sizeOf(after)]), [1, 0, 2]);
    const summed = indexAdd(
      reshape(index!, [count]),
      reshape(rows, [count, outer * sizeOf(after)]),
      x!.shape[axis]!,
    );
    const turned = transpose(reshape(summed, [x!.shape[axis]!, outer, sizeOf(after)]), [1, 0, 2]);
    return [reshape(turned, x!.shape)];
  },
  lower: (b, _node, { axis }) => b.result('Gather', b.inputs, { axis }),
  evaluate([x, index], { axis }, [out]) {
    const inner = sizeOf(x!.shape.slice(axis + 1));
    const count = index!.data.length;
    const dim = x!.shape[axis]!;
    const result = new Float64Array(sizeOf(out!.shape));
    for (let i = 0; i < result.length; i++) {
      const at = index!.data[Math.floor(i / inner) % count]!;
      const outer = Math.floor(i / (inner * count));
      result[i] = x!.data[(outer * dim + (at < 0 ? at + dim : at)) * inner + (i % inner)]!;
    }
    return [result];
  },
  cases: [
    { inputs: [[5, 3], { shape: [4], dtype: 'int32', values: [0, 4, 4, 2] }], attributes: { axis: 0 } },
    { inputs: [[2, 4, 2], { shape: [2, 2], dtype: 'int32', values: [3, 0, 3, 1] }], attributes: { axis: 1 } },
    { inputs: [[3, 2], { shape: [], dtype: 'int32', values: [1] }], attributes: { axis: 0 } },
  ],
});

/** Slices of x along `axis` at int32 positions: shape `before + index.shape + after`. `gather(table, tokens)` is an embedding. */
export const gather = (x: Tensor, index: Tensor, axis = 0): Tensor =>
  gatherOp.apply([x, index], { axis: normalizeAxis(axis, x.rank) })[0]!;

/** Up to this many rows a product with a one-hot matrix beats a scatter. */
const oneHotRows = 1024;

const indexAddOp = defineOp<{ size: number }>({
  name: 'indexAdd',
  infer([index, rows], { size }) {
    checkIndex(index!);
    checkDTypes([rows!], numbers);
    if (index!.shape.length !== 1 || rows!.shape.length !== 2 || index!.shape[0] !== rows!.shape[0]) {
      throw new AnnealError('needs indices [n] and rows [n, c]');
    }
    return [{ dtype: rows!.dtype, shape: [size, rows!.shape[1]!] }];
  },
  vjp: ({ inputs: [index] }, [g]) => [undefined, g && gather(g, index!, 0)],
  lower(b, node, { size }) {
    const [n, c] = node.inputs[1]!.shape;
    const { dtype } = node.outputs[0]!;
    const index = b.cast(b.inputs[0]!, 'int64');
    if (size <= oneHotRows && dtype === 'float32' && b.allowsMicrosoft) {
      const hot = b.emit('OneHot', [index, b.scalar(size, 'int64'), b.vectorOf([0, 1], dtype)], { axis: -1 });
      return b.resultMicrosoft('FusedMatMul', [hot, b.inputs[1]!], { transA: true });
    }
    const zeros = b.emit('Expand', [b.scalar(0, dtype), b.ints([size, c!])]);
    const column = b.emit('Reshape', [index, b.ints([n!, 1])]);
    return b.result('ScatterND', [zeros, column, b.inputs[1]!], { reduction: 'add' });
  },
  evaluate([index, rows], _attributes, [out]) {
    const c = out!.shape[1]!;
    const result = new Float64Array(sizeOf(out!.shape));
    rows!.data.forEach((v, i) => {
      const at = index!.data[Math.floor(i / c)]! * c + (i % c);
      result[at] = result[at]! + v;
    });
    return [result];
  },
  cases: [
    { inputs: [{ shape: [4], dtype: 'int32', values: [0, 2, 2, 1] }, [4, 3]], attributes: { size: 4 } },
    { inputs: [{ shape: [3], dtype: 'int32', values: [1999, 0, 1999] }, [3, 2]], attributes: { size: 2000 } },
  ],
});

/** Matrix of `size` rows in which row `index[i]` has received `rows[i]`; equal indices add up. */
export const indexAdd = (index: Tensor, rows: Tensor, size: number): Tensor =>
  indexAddOp.apply([index, rows], { size })[0]!;

function checkAlong(x: TensorType['shape'], index: TensorType, axis: number): void {
  checkIndex(index);
  if (x.length !== index.shape.length || x.some((dim, i) => i !== axis && index.shape[i] !== dim)) {
    throw new AnnealError(
      `indices ${formatShape(index.shape)} must equal ${formatShape(x)} except along axis ${axis}`,
    );
  }
}

/** Flat position in a tensor of `shape` of element i of `index`, taken along `axis`. */
function along(
  index: { shape: readonly number[]; data: Float64Array },
  dim: number,
  axis: number,
): (i: number) => number {
  const inner = sizeOf(index.shape.slice(axis + 1));
  const count = index.shape[axis]!;
  return (i) => {
    const at = index.data[i]!;
    return (Math.floor(i / (inner * count)) * dim + (at < 0 ? at + dim : at)) * inner + (i % inner);
  };
}

const takeOp = defineOp<{ axis: number }>({
  name: 'takeAlongAxis',
  flops: () => 0,
  infer([x, index], { axis }) {
    checkAlong(x!.shape, index!, axis);
    return [{ dtype: x!.dtype, shape: index!.shape }];
  },
  vjp({ inputs: [x, index], attributes: { axis } }, [g]) {
    return [g && scatterAdd(index!, g, x!.shape[axis]!, axis)];
  },
  lower: (b, _node, { axis }) => b.result('GatherElements', b.inputs, { axis }),
  evaluate([x, index], { axis }) {
    const at = along(index!, x!.shape[axis]!, axis);
    return [index!.data.map((_, i) => x!.data[at(i)]!)];
  },
  cases: [
    {
      inputs: [[2, 4], { shape: [2, 3], dtype: 'int32', values: [0, 3, 3, 1, 1, 2] }],
      attributes: { axis: 1 },
    },
    { inputs: [[3, 2], { shape: [1, 2], dtype: 'int32', values: [2, 0] }], attributes: { axis: 0 } },
  ],
});

/** `out[i][j] = x[i][index[i][j]]` along `axis` (NumPy's take_along_axis). */
export const takeAlongAxis = (x: Tensor, index: Tensor, axis = -1): Tensor =>
  takeOp.apply([x, index], { axis: normalizeAxis(axis, x.rank) })[0]!;

const scatterOp = defineOp<{ axis: number; size: number }>({
  name: 'scatterAdd',
  infer([index, updates], { axis, size }) {
    checkDTypes([updates!], numbers);
    checkAlong(updates!.shape, index!, axis);
    if (updates!.shape[axis] !== index!.shape[axis])
      throw new AnnealError('indices and updates differ in shape');
    return [{ dtype: updates!.dtype, shape: updates!.shape.map((dim, i) => (i === axis ? size : dim)) }];
  },
  vjp: ({ inputs: [index], attributes: { axis } }, [g]) => [undefined, g && takeAlongAxis(g, index!, axis)],
  lower(b, node, { axis }) {
    const { dtype, shape } = node.outputs[0]!;
    const zeros = b.emit('Expand', [b.scalar(0, dtype), b.ints(shape)]);
    b.result('ScatterElements', [zeros, b.inputs[0]!, b.inputs[1]!], { axis, reduction: 'add' });
  },
  evaluate([index, updates], { axis, size }, [out]) {
    const result = new Float64Array(sizeOf(out!.shape));
    const at = along(index!, size, axis);
    updates!.data.forEach((v, i) => {
      result[at(i)] = result[at(i)]! + v;
    });
    return [result];
  },
  cases: [
    {
      inputs: [{ shape: [2, 3], dtype: 'int32', values: [0, 3, 3, 1, 1, 2] }, [2, 3]],
      attributes: { axis: 1, size: 4 },
    },
  ],
});

/** Zeros with `size` positions along `axis`, to which each update is added at its index (the transpose of takeAlongAxis). */
export const scatterAdd = (index: Tensor, updates: Tensor, size: number, axis = -1): Tensor =>
  scatterOp.apply([index, updates], { axis: normalizeAxis(axis, updates.rank), size })[0]!;

const oneHotOp = defineOp<{ depth: number; dtype: DType }>({
  name: 'oneHot',
  infer([index], { depth, dtype }) {
    checkIndex(index!);
    return [{ dtype, shape: [...index!.shape, depth] }];
  },
  vjp: null,
  lower(b, _node, { depth, dtype }) {
    // The runtime's kernels make float32; other dtypes are a cast away.
    const operands = [b.cast(b.inputs[0]!, 'int64'), b.scalar(depth, 'int64'), b.vectorOf([0, 1], 'float32')];
    if (dtype === 'float32') b.result('OneHot', operands, { axis: -1 });
    else b.result('Cast', [b.emit('OneHot', operands, { axis: -1 })], { to: dtypes[dtype].onnx });
  },
  evaluate([index], { depth }, [out]) {
    const result = new Float64Array(sizeOf(out!.shape));
    index!.data.forEach((at, i) => {
      const from = at < 0 ? at + depth : at;
      if (from >= 0 && from < depth) result[i * depth + from] = 1;
    });
    return [result];
  },
  cases: [
    {
      inputs: [{ shape: [3], dtype: 'int32', values: [0, 2, 1] }],
      attributes: { depth: 4, dtype: 'float32' },
    },
    {
      inputs: [{ shape: [2, 1], dtype: 'int32', values: [1, 0] }],
      attributes: { depth: 2, dtype: 'float32' },
    },
  ],
});

/** One-hot rows of int32 indices along a new last axis. Negative indices count from the end; others outside 0 … depth-1 give zeros. */
export const oneHot = (index: Tensor, depth: number, dtype: DType = 'float32'): Tensor =>
  oneHotOp.apply([index], { depth, dtype })[0]!;

const topkOp = defineOp<{ k: number; axis: number; largest: boolean }>({
  name: 'topK',
  infer([x], { k, axis }) {
    checkDTypes([x!], ['float32', 'float64', 'int32']);
    const dim = x!.shape[axis]!;
    if (!Number.isInteger(k) || k < 0 || k > dim) throw new AnnealError(`k = ${k} is outside 0 … ${dim}`);
    const shape = x!.shape.map((d, i) => (i === axis ? k : d));
    return [
      { dtype: x!.dtype, shape },
      { dtype: 'int32', shape },
    ];
  },
  vjp({ inputs: [x], outputs: [, index], attributes: { axis } }, [g]) {
    return [g && scatterAdd(index!, g, x!.shape[axis]!, axis)];
  },
  lower(b, _node, { k, axis, largest }) {
    const index = b.fresh('index');
    b.emitAll('TopK', [b.inputs[0]!, b.ints([k])], {
      attributes: { axis, largest, sorted: true },
      outputs: [b.outputs[0]!, index],
    });
    if (b.outputs[1]) b.emitAll('Cast', [index], { attributes: { to: 6 }, outputs: [b.outputs[1]] });
  },
  evaluate([x], { k, axis, largest }, [out]) {
    const dim = x!.shape[axis]!;
    const inner = stridesOf(x!.shape)[axis]!;
    const values = new Float64Array(sizeOf(out!.shape));
    const indices = new Float64Array(values.length);
    for (let lane = 0; lane < x!.data.length / Math.max(dim, 1); lane++) {
      const base = Math.floor(lane / inner) * dim * inner + (lane % inner);
      const at = (i: number) => x!.data[base + i * inner]!;
      const order = Array.from({ length: dim }, (_, i) => i);
      order.sort((a, b) => (largest ? at(b) - at(a) : at(a) - at(b)) || a - b);
      for (let j = 0; j < k; j++) {
        const to = Math.floor(lane / inner) * k * inner + (lane % inner) + j * inner;
        values[to] = at(order[j]!);
        indices[to] = order[j]!;
      }
    }
    return [values, indices];
  },
  cases: [
    { inputs: [[3, 5]], attributes: { k: 2, axis: 1, largest: true } },
    { inputs: [[4, 2]], attributes: { k: 3, axis: 0, largest: false } },
  ],
});

/** The k largest (or smallest) values along `axis`, best first, and their int32 positions. */
export function topK(x: Tensor, k: number, axis = -1, largest = true): { values: Tensor; indices: Tensor } {
  const [values, indices] = topkOp.apply([x], { k, axis: normalizeAxis(axis, x.rank), largest });
  return { values: values!, indices: indices! };
}

/** x sorted along `axis`, ascending unless `descending`, with the int32 positions where the values came from. */
export function sort(x: Tensor, axis = -1, descending = false): { values: Tensor; indices: Tensor } {
  const at = normalizeAxis(axis, x.rank);
  return topK(x, x.shape[at]!, at, descending);
}

/** Row `index` of the matrix `x` for each row: `pick([n, v], [n]) → [n]`. */
export const pick = (x: Tensor, index: Tensor): Tensor =>
  reshape(takeAlongAxis(x, expandDims(index, -1), -1), index.shape);
