import { add } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/matmul.js';
import { reshape, transpose } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import { Variable } from '../core/variable.js';
import { checkInputs, Linear, type Projection } from './linear.js';
import { type Module, modulesOf, parametersOf } from './module.js';

/** Up to this many rows the weight is the better left operand: it is read as it lies, never repacked. */
const fewRows = 96;
/** From this many outputs on, that holds for a single row, too. */
const manyOutputs = 16384;

/**
 * x [..., in] · wᵀ for a weight [out, in] that is stored row by row, as embeddings are. Few rows are computed as
 * (w xᵀ)ᵀ. A product repacks its right operand before it multiplies; with few rows to share that pass over the
 * weight it is most of the time, and at 16 rows (w xᵀ)ᵀ takes 0.7 of the time of x wᵀ and half of that of a
 * product with a weight [in, out].
 */
export function timesTransposed(x: Tensor, w: Tensor): Tensor {
  const [outputs, inputs] = w.shape as [number, number];
  const rows = x.size / inputs;
  const isSwapped = rows > 1 ? rows <= fewRows : outputs >= manyOutputs;
  if (!isSwapped) return matmul(x, w, { transposeB: true });
  const shape = [...x.shape.slice(0, -1), outputs];
  // One row is its own transpose.
  if (rows === 1) return reshape(matmul(w, reshape(x, [inputs, 1])), shape);
  return reshape(transpose(matmul(w, reshape(x, [rows, inputs]), { transposeB: true })), shape);
}

/** A linear layer whose weight is stored [outputs, inputs]: the faster layout where few rows are computed at a time. */
export class OutputMajorLinear implements Projection {
  readonly weight: Variable;
  readonly bias: Variable | undefined;

  constructor(
    readonly inputs: number,
    readonly outputs: number,
    weight: Variable,
    bias?: Variable,
  ) {
    this.weight = weight;
    this.bias = bias;
  }

  apply(x: Tensor): Tensor {
    checkInputs(this, x);
    const y = timesTransposed(x, this.weight);
    return this.bias ? add(y, this.bias) : y;
  }

  /** The layer with the same values; its weight is new, the bias shared. */
  static from({ inputs, outputs, weight, bias }: Linear): OutputMajorLinear {
    const data = new Float32Array(weight.size);
    for (let i = 0; i < inputs; i++) {
      for (let o = 0; o < outputs; o++) data[o * inputs + i] = weight.data[i * outputs + o]!;
    }
    const turned = new Variable(data, 'float32', [outputs, inputs], {
      name: weight.name,
      trainable: weight.trainable,
      ...(weight.role ? { role: weight.role } : {}),
    });
    return new OutputMajorLinear(inputs, outputs, turned, bias);
  }
}

/**
 * Replaces every `Linear` of a model by an `OutputMajorLinear` of the same values, layer by layer, so that the
 * old weights can be freed on the way. For models that only generate: programs that were traced before keep the
 * old weights, and checkpoints expect [inputs, outputs].
 * @returns the number of layers replaced.
 */
export function toOutputMajor(model: Module): number {
  // Before the weights are taken out of their places: names are paths.
  parametersOf(model);
  let count = 0;
  for (const module of modulesOf(model).values()) {
    for (const [key, value] of Object.entries(module)) {
      if (!(value instanceof Linear)) continue;
      (module as Record<string, unknown>)[key] = OutputMajorLinear.from(value);
      count++;
    }
  }
  return count;
}
