import { AnnealError } from '../errors.js';
import { checkDTypes, defineOp } from '../op.js';
import { normalizeAxis, sizeOf, stridesOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { expandDims, gatherStrided, zerosLike } from './view.js';

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
