import { fromFloat16 } from '../core/float16.js';
import { add } from '../core/ops/elementwise.js';
import { gather } from '../core/ops/indexing.js';
import { type PackedMatrix, packedMatmul, unpackWeights } from '../core/ops/packed-matmul.js';
import { slice } from '../core/ops/slice.js';
import type { Tensor } from '../core/tensor.js';
import { Variable } from '../core/variable.js';
import type { TokenEmbedding } from './embedding.js';
import { checkInputs, type SharedProjection } from './linear.js';

/** The storage of a packed matrix, [outputs, inputs]; see `PackedMatrix` for what it means. */
export interface PackedData {
  bits: 4 | 8;
  block: number;
  outputs: number;
  inputs: number;
  /** [outputs, blocks, block·bits/8] */
  values: Uint8Array;
  /** [outputs, blocks], as floats or the bits of float16 */
  scales: Float32Array | Uint16Array;
  /** Like the scales. */
  minima?: Float32Array | Uint16Array | undefined;
}

/**
 * The variables of a packed matrix. They are fixed: train an adapter beside it (LoRA). `coarse` lets products round
 * activations to 8 bits per block: several times faster, with a relative error of about 0.5 %.
 */
export class PackedWeights implements PackedMatrix {
  readonly outputs: number;
  readonly inputs: number;
  readonly bits: number;
  readonly block: number;
  readonly values: Variable;
  readonly scales: Variable;
  readonly minima: Variable | undefined;

  constructor(
    { bits, block, outputs, inputs, values, scales, minima }: PackedData,
    public coarse = true,
  ) {
    const blocks = inputs / block;
    const make = (data: PackedData['values' | 'scales'], shape: readonly number[]) => {
      const dtype =
        data instanceof Uint8Array ? 'uint8' : data instanceof Uint16Array ? 'float16' : 'float32';
      return new Variable(data, dtype, shape, { fixed: true });
    };
    this.outputs = outputs;
    this.inputs = inputs;
    this.bits = bits;
    this.block = block;
    this.values = make(values, [outputs, blocks, (block * bits) / 8]);
    this.scales = make(scales, [outputs, blocks]);
    this.minima = minima && make(minima, [outputs, blocks]);
  }

  /** x · Wᵀ, [..., inputs] → [..., outputs]. */
  apply(x: Tensor): Tensor {
    return packedMatmul(x, this, this.coarse);
  }
}

/**
 * A projection whose weights stay as small in memory as in the file that they came from: integers of 4 or 8 bits
 * with a scale, and perhaps a minimum, per block. Several projections of one input share a matrix and take
 * consecutive rows of it: one product, which is found by its equality, serves them all.
 */
export class PackedLinear implements SharedProjection {
  readonly inputs: number;
  readonly outputs: number;

  constructor(
    readonly weight: PackedWeights,
    readonly bias?: Variable,
    /** First row of the matrix, and how many. Default: all. */
    readonly rows: readonly [start: number, count: number] = [0, weight.outputs],
  ) {
    this.inputs = weight.inputs;
    this.outputs = rows[1];
  }

  apply(x: Tensor): Tensor {
    const all = this.whole(x);
    const [start, count] = this.rows;
    const leading = x.shape.slice(0, -1).map(() => null);
    const y = count === this.weight.outputs ? all : slice(all, [...leading, [start, start + count]]);
    return this.bias ? add(y, this.bias) : y;
  }

  /** The product with all rows of the matrix. */
  whole(x: Tensor): Tensor {
    checkInputs(this, x);
    return this.weight.apply(x);
  }
}

/** A table of packed vectors [count, dim] that also serves as a tied output head. */
export class PackedEmbedding implements TokenEmbedding {
  readonly count: number;
  readonly dim: number;

  constructor(readonly weight: PackedWeights) {
    this.count = weight.outputs;
    this.dim = weight.inputs;
  }

  /** Unpacks the rows that are asked for. */
  apply(tokens: Tensor): Tensor {
    const { values, scales, minima, bits } = this.weight;
    const rowMinima = minima && gather(minima, tokens);
    return unpackWeights(gather(values, tokens), gather(scales, tokens), bits, rowMinima);
  }

  logits(x: Tensor): Tensor {
    return this.weight.apply(x);
  }
}

/** float32 weights [outputs, inputs] of a packed matrix, on the host. */
export function unpackData({ bits, block, values, scales, minima }: PackedWeights): Float32Array {
  const floats = ({ data }: Variable) => (data instanceof Uint16Array ? fromFloat16(data) : data);
  const [q, s, m] = [values.data, floats(scales), minima && floats(minima)];
  const [outputs, blocks] = scales.shape as [number, number];
  const out = new Float32Array(outputs * blocks * block);
  const zero = m ? 0 : 2 ** (bits - 1);
  for (let b = 0; b < outputs * blocks; b++) {
    const minimum = m ? m[b]! : 0;
    for (let i = 0; i < block; i++) {
      const at = b * block + i;
      const integer = bits === 8 ? q[at]! : (q[at >> 1]! >> (4 * (at & 1))) & 15;
      out[at] = Math.fround(s[b]! * (integer - zero)) + minimum;
    }
  }
  return out;
}
