import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, type HostValue, numbers } from '../op.js';
import {
  checkShape,
  formatShape,
  normalizeAxes,
  normalizeAxis,
  type Shape,
  sameShape,
  sizeOf,
  stridesOf,
  tryBroadcast,
} from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { broadcastIndex } from './elementwise.js';
import { scalar } from './leaf.js';
import { unbroadcast } from './reduce.js';

const reshapeOp = defineOp<{ shape: Shape }>({
  name: 'reshape',
  view: true,
  flops: () => 0,
  infer([x], { shape }) {
    checkShape(shape);
    if (sizeOf(shape) !== sizeOf(x!.shape)) {
      throw new AnnealError(`${sizeOf(x!.shape)} elements do not fill shape ${formatShape(shape)}`);
    }
    return [{ dtype: x!.dtype, shape }];
  },
  vjp: ({ inputs: [x] }, [g]) => [g && reshape(g, x!.shape)],
  lower: (b, _node, { shape }) => b.result('Reshape', [b.inputs[0]!, b.ints(shape)], { allowzero: true }),
  evaluate: ([x]) => [x!.data],
  cases: [
    { inputs: [[2, 3, 4]], attributes: { shape: [6, 4] } },
    { inputs: [[]], attributes: { shape: [1, 1] } },
    { inputs: [[0, 3]], attributes: { shape: [3, 0, 2] } },
  ],
});

/** The same elements in another shape; one size may be -1 and is then computed. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const unknown = shape.indexOf(-1);
  let target = shape;
  if (unknown >= 0) {
    const known = shape.reduce((n, dim, i) => (i === unknown ? n : n * dim), 1);
    const size = known === 0 ? 0 : x.size / known;
    if (!Number.isInteger(size)) {
      throw new AnnealError(`reshape: ${formatShape(x.shape)} does not divide into ${formatShape(shape)}`);
    }
    target = shape.map((dim, i) => (i === unknown ? size : dim));
  }
  return sameShape(x.shape, target) ? x : reshapeOp.apply([x], { shape: [...target] })[0]!;
}

const transposeOp = defineOp<{ permutation: readonly number[] }>({
  name: 'transpose',
  view: true,
  flops: () => 0,
  infer([x], { permutation }) {
    const sorted = [...permutation].sort((a, b) => a - b);
    if (permutation.length !== x!.shape.length || sorted.some((axis, i) => axis !== i)) {
      throw new AnnealError(
        `[${permutation}] is not a permutation of the axes of a rank ${x!.shape.length} tensor`,
      );
    }
    return [{ dtype: x!.dtype, shape: permutation.map((axis) => x!.shape[axis]!) }];
  },
  vjp({ attributes: { permutation } }, [g]) {
    const inverse = permutation.map((_, i) => permutation.indexOf(i));
    return [g && transpose(g, inverse)];
  },
  lower: (b, _node, { permutation }) => b.result('Transpose', b.inputs, { perm: permutation }),
  evaluate([x], { permutation }, [out]) {
    const strides = stridesOf(x!.shape);
    return [
      gatherStrided(
        x!,
        out!.shape,
        permutation.map((axis) => strides[axis]!),
        0,
      ),
    ];
  },
  cases: [
    { inputs: [[2, 3, 4]], attributes: { permutation: [2, 0, 1] } },
    { inputs: [[2, 3]], attributes: { permutation: [1, 0] } },
    { inputs: [[2, 1, 3, 2]], attributes: { permutation: [0, 2, 1, 3] } },
    { inputs: [[0, 3]], attributes: { permutation: [1, 0] } },
  ],
});

/** Elements of `x` at `start + Σ position·stride`, for every position of `shape`. */
export function gatherStrided(
  x: HostValue,
  shape: Shape,
  strides: readonly number[],
  start: number,
): Float64Array {
  const result = new Float64Array(sizeOf(shape));
  const outer = stridesOf(shape);
  for (let i = 0; i < result.length; i++) {
    let index = start;
    let rest = i;
    for (let axis = 0; axis < shape.length; axis++) {
      const position = Math.floor(rest / outer[axis]!);
      rest -= position * outer[axis]!;
      index += position * strides[axis]!;
    }
    result[i] = x.data[index]!;
  }
  return result;
}

/** Axes in a new order; without `permutation` the last two are exchanged. */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  const axes = Array.from({ length: x.rank }, (_, i) => i);
  if (!permutation) {
    if (x.rank < 2) return x;
    axes.push(...axes.splice(-2).reverse());
  }
  const order = permutation ? permutation.map((axis) => normalizeAxis(axis, x.rank)) : axes;
  if (order.length === x.rank && order.every((axis, i) => axis === i)) return x;
  return transposeOp.apply([x], { permutation: order })[0]!;
}

const broadcastOp = defineOp<{ shape: Shape }>({
  name: 'broadcastTo',
  flops: () => 0,
  infer([x], { shape }) {
    const result = tryBroadcast(x!.shape, shape);
    if (!result || !sameShape(result, shape)) {
      throw new AnnealError(`shape ${formatShape(x!.shape)} does not broadcast to ${formatShape(shape)}`);
    }
    return [{ dtype: x!.dtype, shape }];
  },
  vjp: ({ inputs: [x] }, [g]) => [g && unbroadcast(g, x!.shape)],
  lower: (b, _node, { shape }) => b.result('Expand', [b.inputs[0]!, b.ints(shape)]),
  evaluate([x], { shape }) {
    const at = broadcastIndex(x!.shape, shape);
    return [new Float64Array(sizeOf(shape)).map((_, i) => x!.data[at(i)]!)];
  },
  cases: [
    { inputs: [[3]], attributes: { shape: [2, 3] } },
    { inputs: [[2, 1, 3]], attributes: { shape: [2, 4, 3] } },
    { inputs: [[]], attributes: { shape: [2, 0] } },
  ],
});

/** x repeated along axes of size 1 and new leading axes until it has `shape`. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : broadcastOp.apply([x], { shape: [...shape] })[0]!;
}

type SliceAttributes = { starts: readonly number[]; stops: readonly number[]; steps: readonly number[] };

const sliceLength = (start: number, stop: number, step: number) =>
  Math.max(0, Math.ceil((stop - start) / step));

const sliceOp = defineOp<SliceAttributes>({
  name: 'slice',
  flops: () => 0,
  infer([x], { starts, stops, steps }) {
    return [
      { dtype: x!.dtype, shape: x!.shape.map((_, i) => sliceLength(starts[i]!, stops[i]!, steps[i]!)) },
    ];
  },
  vjp({ inputs: [x], attributes: { starts, steps } }, [g]) {
    if (!g) return [];
    // Undo the stride by zeros between the elements, the cut by zeros around them; a reversed axis is turned back first.
    const forward = steps.map((step) => Math.abs(step));
    const turned = flip(
      g,
      steps.flatMap((step, i) => (step < 0 ? [i] : [])),
    );
    const first = starts.map((start, i) =>
      steps[i]! > 0 ? start : start + (Math.max(g.shape[i]!, 1) - 1) * steps[i]!,
    );
    return [placeStrided(turned, x!.shape, first, forward)];
  },
  lower(b, node, { starts, stops, steps }) {
    const axes = starts.map((_, i) => i);
    // A descending slice that ends before element 0 has no non-negative stop in ONNX.
    const ends = stops.map((stop) => (stop < 0 ? -Number.MAX_SAFE_INTEGER : stop));
    const used = axes.filter(
      (i) => starts[i] !== 0 || steps[i] !== 1 || stops[i] !== node.inputs[0]!.shape[i],
    );
    const pick = (list: readonly number[]) => b.ints(used.map((i) => list[i]!));
    if (used.length === 0) b.result('Identity', b.inputs);
    else b.result('Slice', [b.inputs[0]!, pick(starts), pick(ends), b.ints(used), pick(steps)]);
  },
  evaluate([x], { starts, steps }, [out]) {
    const strides = stridesOf(x!.shape);
    const start = starts.reduce((sum, s, i) => sum + s * strides[i]!, 0);
    return [
      gatherStrided(
        x!,
        out!.shape,
        strides.map((s, i) => s * steps[i]!),
        start,
      ),
    ];
  },
  cases: [
    { inputs: [[4, 5]], attributes: { starts: [1, 0], stops: [3, 5], steps: [1, 2] } },
    { inputs: [[6]], attributes: { starts: [5], stops: [-1], steps: [-2] } },
    { inputs: [[2, 3]], attributes: { starts: [0, 1], stops: [2, 1], steps: [1, 1] } },
  ],
});

/** One axis of a slice: `[start, stop, step]`, negative positions count from the end; `null`: all of it. */
export type SliceRange =
  | number
  | null
  | readonly [start?: number | null, stop?: number | null, step?: number];

function resolveRange(range: SliceRange | undefined, dim: number): [number, number, number] {
  if (range === null || range === undefined) return [0, dim, 1];
  if (typeof range === 'number') {
    const at = normalizeAxis(range, dim);
    return [at, at + 1, 1];
  }
  const [start, stop, step = 1] = range;
  if (!Number.isInteger(step) || step === 0)
    throw new AnnealError(`slice step ${step} is not a non-zero integer`);
  const clamp = (v: number, low: number, high: number) => Math.min(Math.max(v < 0 ? v + dim : v, low), high);
  if (step > 0) {
    const from = clamp(start ?? 0, 0, dim);
    return [from, Math.max(from, clamp(stop ?? dim, 0, dim)), step];
  }
  const from = clamp(start ?? dim - 1, -1, dim - 1);
  const to = stop === null || stop === undefined ? -1 : clamp(stop, -1, dim - 1);
  return [from, Math.min(from, to), step];
}

/**
 * A strided cut, one range per leading axis: `slice(x, [[1, 3], [null, null, 2]])`. A number picks one
 * position and removes the axis; steps may be negative.
 */
export function slice(x: Tensor, ranges: readonly SliceRange[]): Tensor {
  if (ranges.length > x.rank)
    throw new AnnealError(`slice: ${ranges.length} ranges for a tensor of rank ${x.rank}`);
  const resolved = x.shape.map((dim, i) => resolveRange(ranges[i], dim));
  const whole = resolved.every(([start, stop, step], i) => start === 0 && stop === x.shape[i] && step === 1);
  const cut = whole
    ? x
    : sliceOp.apply([x], {
        starts: resolved.map((r) => r[0]),
        stops: resolved.map((r) => r[1]),
        steps: resolved.map((r) => r[2]),
      })[0]!;
  return reshape(
    cut,
    cut.shape.filter((_, i) => typeof ranges[i] !== 'number'),
  );
}

/** x with the given axes reversed. */
export function flip(x: Tensor, axes: readonly number[]): Tensor {
  if (axes.length === 0) return x;
  const turned = normalizeAxes(axes, x.rank);
  return slice(
    x,
    x.shape.map((_, i) => (turned.includes(i) ? [null, null, -1] : null)),
  );
}

type PadAttributes = { before: readonly number[]; after: readonly number[]; value: number };

const padOp = defineOp<PadAttributes>({
  name: 'pad',
  flops: () => 0,
  infer([x], { before, after }) {
    checkDTypes([x!], numbers);
    return [{ dtype: x!.dtype, shape: x!.shape.map((dim, i) => dim + before[i]! + after[i]!) }];
  },
  vjp({ inputs: [x], attributes: { before } }, [g]) {
    return [
      g &&
        slice(
          g,
          x!.shape.map((dim, i) => [before[i]!, before[i]! + dim] as const),
        ),
    ];
  },
  lower(b, node, { before, after, value }) {
    const { dtype } = node.outputs[0]!;
    b.result('Pad', [b.inputs[0]!, b.ints([...before, ...after]), b.scalar(value, dtype)], {
      mode: 'constant',
    });
  },
  evaluate([x], { before, value }, [out]) {
    const result = new Float64Array(sizeOf(out!.shape)).fill(value);
    const outer = stridesOf(out!.shape);
    const inner = stridesOf(x!.shape);
    for (let i = 0; i < x!.data.length; i++) {
      const at = inner.reduce(
        (sum, s, k) => sum + ((Math.floor(i / s) % x!.shape[k]!) + before[k]!) * outer[k]!,
        0,
      );
      result[at] = x!.data[i]!;
    }
    return [result];
  },
  cases: [
    { inputs: [[2, 3]], attributes: { before: [1, 0], after: [0, 2], value: 0 } },
    { inputs: [[3]], attributes: { before: [2], after: [1], value: -1.5 } },
  ],
});

/** x with `[before, after]` elements of `value` added to each axis. */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[], value = 0): Tensor {
  if (widths.length !== x.rank)
    throw new AnnealError(`pad: ${widths.length} widths for a tensor of rank ${x.rank}`);
  if (widths.some(([a, b]) => a < 0 || b < 0))
    throw new AnnealError('pad: widths must not be negative; use slice()');
  if (widths.every(([a, b]) => a === 0 && b === 0)) return x;
  return padOp.apply([x], { before: widths.map((w) => w[0]), after: widths.map((w) => w[1]), value })[0]!;
}

/** Zeros of `shape` with x at `start + i·step` along each axis. */
export function placeStrided(
  x: Tensor,
  shape: Shape,
  start: readonly number[],
  step: readonly number[],
): Tensor {
  let t = x;
  for (let axis = 0; axis < x.rank; axis++) {
    const s = step[axis]!;
    const n = t.shape[axis]!;
    if (s === 1 || n === 0) continue;
    // [.., n, ..] -> [.., n, 1, ..] -> [.., n, s, ..] with zeros -> [.., n·s, ..]
    const split = reshape(t, [...t.shape.slice(0, axis + 1), 1, ...t.shape.slice(axis + 1)]);
    const padded = pad(
      split,
      split.shape.map((_, i) => [0, i === axis + 1 ? s - 1 : 0] as const),
    );
    t = reshape(padded, [...t.shape.slice(0, axis), n * s, ...t.shape.slice(axis + 1)]);
  }
  const room = t.shape.map((dim, i) => Math.min(dim, Math.max(0, shape[i]! - start[i]!)));
  const cut = slice(
    t,
    room.map((dim) => [0, dim] as const),
  );
  return pad(
    cut,
    room.map(
      (dim, i) => [dim === 0 ? shape[i]! : start[i]!, dim === 0 ? 0 : shape[i]! - start[i]! - dim] as const,
    ),
  );
}

function concatShape(inputs: readonly TensorType[], axis: number): number[] {
  const shape = [...inputs[0]!.shape];
  for (const other of inputs.slice(1)) {
    const fits =
      other.shape.length === shape.length && other.shape.every((dim, i) => i === axis || dim === shape[i]);
    if (!fits) throw new AnnealError(`shapes may differ along axis ${axis} only`);
    shape[axis] = shape[axis]! + other.shape[axis]!;
  }
  return shape;
}

const concatOp = defineOp<{ axis: number }>({
  name: 'concat',
  flops: () => 0,
  infer(inputs, { axis }) {
    checkDTypes(inputs);
    return [{ dtype: inputs[0]!.dtype, shape: concatShape(inputs, axis) }];
  },
  vjp({ inputs, attributes: { axis } }, [g]) {
    return g
      ? split(
          g,
          inputs.map((x) => x.shape[axis]!),
          axis,
        )
      : [];
  },
  lower: (b, _node, { axis }) => b.result('Concat', b.inputs, { axis }),
  evaluate(inputs, { axis }, [out]) {
    const result = new Float64Array(sizeOf(out!.shape));
    const inner = sizeOf(out!.shape.slice(axis + 1));
    const outer = sizeOf(out!.shape.slice(0, axis));
    let offset = 0;
    for (const x of inputs) {
      const run = x.shape[axis]! * inner;
      for (let o = 0; o < outer; o++) {
        result.set(x.data.subarray(o * run, (o + 1) * run), o * out!.shape[axis]! * inner + offset);
      }
      offset += run;
    }
    return [result];
  },
  cases: [
    {
      inputs: [
        [2, 3],
        [2, 1],
      ],
      attributes: { axis: 1 },
    },
    {
      inputs: [
        [1, 2],
        [3, 2],
        [0, 2],
      ],
      attributes: { axis: 0 },
    },
  ],
});

/** Tensors joined along an existing axis. */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  if (tensors.length === 0) throw new AnnealError('concat: needs at least one tensor');
  if (tensors.length === 1) return tensors[0]!;
  return concatOp.apply(tensors, { axis: normalizeAxis(axis, tensors[0]!.rank) })[0]!;
}

/** Tensors joined along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  if (tensors.length === 0) throw new AnnealError('stack: needs at least one tensor');
  const at = normalizeAxis(axis, tensors[0]!.rank + 1);
  return concat(
    tensors.map((t) => expandDims(t, at)),
    at,
  );
}

const splitOp = defineOp<{ sizes: readonly number[]; axis: number }>({
  name: 'split',
  flops: () => 0,
  infer([x], { sizes, axis }) {
    const total = sizes.reduce((a, b) => a + b, 0);
    if (total !== x!.shape[axis])
      throw new AnnealError(`sizes [${sizes}] do not add up to ${x!.shape[axis]}`);
    return sizes.map((size) => ({
      dtype: x!.dtype,
      shape: x!.shape.map((dim, i) => (i === axis ? size : dim)),
    }));
  },
  vjp({ outputs, attributes: { axis } }, grads) {
    if (grads.every((g) => g === undefined)) return [];
    return [
      concat(
        outputs.map((y, i) => grads[i] ?? zerosLike(y)),
        axis,
      ),
    ];
  },
  lower(b, _node, { sizes, axis }) {
    b.result('Split', [b.inputs[0]!, b.ints(sizes)], { axis });
  },
  evaluate([x], { sizes, axis }) {
    const strides = stridesOf(x!.shape);
    let offset = 0;
    return sizes.map((size) => {
      const start = offset * strides[axis]!;
      offset += size;
      return gatherStrided(
        x!,
        x!.shape.map((dim, i) => (i === axis ? size : dim)),
        strides,
        start,
      );
    });
  },
  cases: [
    { inputs: [[2, 6]], attributes: { sizes: [2, 3, 1], axis: 1 } },
    { inputs: [[4, 2]], attributes: { sizes: [2, 2], axis: 0 } },
  ],
});

/** x cut along `axis` into `parts` equal pieces, or into pieces of the given sizes. */
export function split(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  const at = normalizeAxis(axis, x.rank);
  if (typeof parts === 'number') {
    const size = x.shape[at]! / parts;
    if (!Number.isInteger(size))
      throw new AnnealError(`split: axis of size ${x.shape[at]} does not divide into ${parts}`);
    return split(x, new Array<number>(parts).fill(size), at);
  }
  return parts.length === 1 ? [x] : [...splitOp.apply([x], { sizes: [...parts], axis: at })];
}

/** x with a new axis of size 1. */
export function expandDims(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis(axis, x.rank + 1);
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** x without its axes of size 1, or without the given ones. */
export function squeeze(x: Tensor, axes?: readonly number[]): Tensor {
  const gone = axes?.map((axis) => normalizeAxis(axis, x.rank));
  return reshape(
    x,
    x.shape.filter((dim, i) => (gone ? !gone.includes(i) : dim !== 1)),
  );
}

/** x repeated `times[i]` times along each axis, as a whole (ABAB). */
export function tile(x: Tensor, times: readonly number[]): Tensor {
  if (times.length !== x.rank)
    throw new AnnealError(`tile: ${times.length} counts for a tensor of rank ${x.rank}`);
  const spread = reshape(
    x,
    x.shape.flatMap((dim) => [1, dim]),
  );
  const repeated = broadcastTo(
    spread,
    x.shape.flatMap((dim, i) => [times[i]!, dim]),
  );
  return reshape(
    repeated,
    x.shape.map((dim, i) => dim * times[i]!),
  );
}

/** Zeros of the type of x. */
export function zerosLike(x: TensorType): Tensor {
  return broadcastTo(scalar(0, x.dtype), x.shape);
}
