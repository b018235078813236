import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp, numbers } from '../op.js';
import { normalizeAxes, normalizeAxis, type Shape, sizeOf, stridesOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { gatherStrided, reshape } from './view.js';

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
