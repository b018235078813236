import { type DType, isFloat } from '../dtype.js';
import { AnnealError } from '../errors.js';
import { type Applicable, checkDTypes, defineOp, floats } from '../op.js';
import { formatShape, sameShape, sizeOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { after } from './after.js';
import { add, cast, floor, mul, sub } from './elementwise.js';
import { concat } from './join.js';
import { matmul } from './matmul.js';
import { sum } from './reduce.js';
import { expandDims, reshape, transpose } from './view.js';

type PackedAttributes = {
  /** 4 or 8 bits a weight. */
  bits: number;
  /** Weights that share a scale. */
  block: number;
  /** Activations may be rounded to 8 bits, block by block, which is several times faster. */
  coarse: boolean;
};

function checkPacked(
  [x, values, scales, minima]: readonly TensorType[],
  { bits, block }: PackedAttributes,
): void {
  const [outputs, blocks, bytes] = values!.shape;
  checkDTypes([x!], floats);
  if (values!.dtype !== 'uint8') throw new AnnealError(`packed values are ${values!.dtype}, not uint8`);
  if (bits !== 4 && bits !== 8)
    throw new AnnealError(`weights of ${bits} bits are not supported, only 4 and 8`);
  const expected = [outputs!, blocks!, (block * bits) / 8];
  if (!sameShape(values!.shape, expected) || bytes === undefined || x!.shape.at(-1) !== blocks! * block) {
    throw new AnnealError(
      `weights ${formatShape(values!.shape)} with blocks of ${block} do not fit x ${formatShape(x!.shape)}`,
    );
  }
  for (const [name, factors] of Object.entries({ scales: scales!, minima: minima ?? scales! })) {
    if (!isFloat(factors.dtype)) throw new AnnealError(`${name} are ${factors.dtype}, not floating-point`);
    if (!sameShape(factors.shape, [outputs!, blocks!]))
      throw new AnnealError(`${name} must be ${formatShape([outputs!, blocks!])}`);
  }
}

/**
 * Integers of packed weights as floats less `zero`, [..., block]; two of 4 bits share a byte, the first in the low half.
 */
function unpack(values: Tensor, bits: number, dtype: DType, zero: number): Tensor {
  const bytes = cast(values, dtype);
  const less = (t: Tensor) => (zero === 0 ? t : sub(t, zero));
  if (bits === 8) return less(bytes);
  const high = floor(mul(bytes, 1 / 16));
  const low = sub(bytes, mul(high, 16));
  const pairs = concat([expandDims(low, -1), expandDims(high, -1)], -1);
  return less(reshape(pairs, [...values.shape.slice(0, -1), values.shape.at(-1)! * 2]));
}

/** What an integer of packed weights without minima is counted from: the middle of its range. */
const middleOf = (bits: number): number => 2 ** (bits - 1);

/**
 * Weights [..., blocks · block] of values [..., blocks, bytes] and scales [..., blocks]: scale · (q − 2^(bits−1)), or
 * scale · q + minimum where there are minima [..., blocks]. In the given type.
 */
export function unpackWeights(
  values: Tensor,
  scales: Tensor,
  bits: number,
  minima?: Tensor,
  dtype: DType = 'float32',
): Tensor {
  const integers = unpack(values, bits, dtype, minima ? 0 : middleOf(bits));
  const scaled = mul(integers, expandDims(inType(scales, dtype), -1));
  const y = minima ? add(scaled, expandDims(inType(minima, dtype), -1)) : scaled;
  return reshape(y, [...y.shape.slice(0, -2), y.shape.at(-2)! * y.shape.at(-1)!]);
}

const inType = (t: Tensor, dtype: DType): Tensor => (t.dtype === dtype ? t : cast(t, dtype));

const packedMatmulOp: Applicable<PackedAttributes> = defineOp<PackedAttributes>({
  name: 'packedMatmul',
  infer(inputs, attributes) {
    checkPacked(inputs, attributes);
    const [x, values] = inputs as [TensorType, TensorType];
    return [{ dtype: x.dtype, shape: [...x.shape.slice(0, -1), values.shape[0]!] }];
  },
  flops: ([x], _attributes, [y]) => 2 * sizeOf(y!.shape) * x!.shape.at(-1)!,
  decompose([x, values, scales, minima], attributes) {
    const { block, bits } = attributes;
    const { dtype } = x!;
    if (!minima) {
      const weights = unpackWeights(values!, scales!, bits, undefined, dtype);
      return [matmul(x!, weights, { transposeB: true })];
    }
    // A minimum is the same for a block, so its part of the product is the block's sum of x times the minimum: a
    // product of 1/block of the size, exact and cheap. Counting integers from the middle of their range, which the
    // minimum makes up for, halves the error of rounding x.
    const factors = inType(scales!, dtype);
    const middles = add(inType(minima, dtype), mul(factors, middleOf(bits)));
    const y = packedMatmulOp.apply([x!, values!, factors], attributes)[0]!;
    const sums = sum(reshape(x!, [...x!.shape.slice(0, -1), x!.shape.at(-1)! / block, block]), -1);
    return [add(matmul(sums, middles, { transposeB: true }), y)];
  },
  vjp({ inputs: [x, values, scales, minima], attributes: { bits } }, [g]) {
    if (!g) return [];
    const { dtype } = x!;
    const [outputs, blocks] = scales!.shape as [number, number];
    const inputs = x!.shape.at(-1)!;
    const rows = reshape(g, [-1, outputs]);
    // Unpacked when the gradient arrives and freed after: of constants alone, the runtime would unpack every matrix
    // when the program is loaded, and keep them all.
    const integers = unpack(after(values!, g), bits, dtype, minima ? 0 : middleOf(bits)); // [outputs, blocks, block]
    const scaled = mul(integers, expandDims(inType(scales!, dtype), -1));
    const weights = minima ? add(scaled, expandDims(inType(minima, dtype), -1)) : scaled;
    const toWeights = matmul(transpose(rows, [1, 0]), reshape(x!, [-1, inputs]));
    const byBlock = reshape(toWeights, [outputs, blocks, inputs / blocks]);
    return [
      reshape(matmul(rows, reshape(weights, [outputs, inputs])), x!.shape),
      undefined,
      inType(sum(mul(byBlock, integers), -1), scales!.dtype),
      ...(minima ? [inType(sum(byBlock, -1), minima.dtype)] : []),
    ];
  },
  lower(b, node, { bits, block, coarse }) {
    if (!b.allowsMicrosoft || node.outputs[0]!.dtype !== 'float32') return false;
    if (coarse && b.resultKernel(node, 'packedMatmul', { bits, block })) return true;
    const [x, values, scales, minima] = node.inputs as [Tensor, Tensor, Tensor, Tensor?];
    if (minima) return false;
    const [xName, valuesName, scalesName] = b.inputs as [string, string, string];
    const factors = scales.dtype === 'float32' ? scalesName : b.cast(scalesName, 'float32');
    b.resultMicrosoft('MatMulNBits', [xName, valuesName, factors], {
      K: x.shape.at(-1)!,
      N: values.shape[0]!,
      bits,
      block_size: block,
      accuracy_level: coarse ? 4 : 1,
    });
    return true;
  },
  cases: [
    {
      inputs: [[3, 32], { shape: [4, 2, 8], dtype: 'uint8', values: bytesOf(64) }, [4, 2]],
      attributes: { bits: 4, block: 16, coarse: false },
    },
    {
      inputs: [[2, 1, 32], { shape: [3, 1, 32], dtype: 'uint8', values: bytesOf(96) }, [3, 1]],
      attributes: { bits: 8, block: 32, coarse: false },
    },
    {
      inputs: [[2, 64], { shape: [5, 2, 16], dtype: 'uint8', values: bytesOf(160) }, [5, 2], [5, 2]],
      attributes: { bits: 4, block: 32, coarse: false },
    },
  ],
});

/** Bytes in which every bit pattern has its turn. */
function bytesOf(count: number): number[] {
  return Array.from({ length: count }, (_, i) => (i * 37 + 11) % 256);
}

/** A matrix of packed weights, [outputs, inputs]: values of few bits that share a scale in blocks along the inputs. */
export interface PackedMatrix {
  /** 4 or 8. */
  readonly bits: number;
  /** Inputs that share a scale; a power of two from 16 on. */
  readonly block: number;
  /** uint8 [outputs, blocks, block·bits/8]. */
  readonly values: Tensor;
  /** float32 or float16 [outputs, blocks]. */
  readonly scales: Tensor;
  /** Like the scales, added to every weight of a block, whose integers then count from 0. */
  readonly minima?: Tensor | undefined;
}

/**
 * x · Wᵀ for x float32 [..., inputs] and packed W, without unpacking it in memory: W = scale · (q − 2^(bits−1)), or
 * scale · q + minimum where there are minima. `coarse` lets the runtime round activations to 8 bits per block, as llama.cpp does.
 */
export function packedMatmul(x: Tensor, weights: PackedMatrix, coarse = true): Tensor {
  const { bits, block, values, scales, minima } = weights;
  const inputs = [x, values, scales, ...(minima ? [minima] : [])];
  return packedMatmulOp.apply(inputs, { bits, block, coarse })[0]!;
}
