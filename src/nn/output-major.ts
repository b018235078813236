import { allocate } from '../core/dtype.js';
import { add } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/matmul.js';
import { slice } from '../core/ops/slice.js';
import { reshape, transpose } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import { Variable } from '../core/variable.js';
import { checkInputs, Linear, type SharedProjection } from './linear.js';
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

/**
 * A linear layer whose weight is stored [outputs, inputs]: the faster layout where few rows are computed at a time.
 * Layers of one input share a weight and take consecutive rows of it: one product, which is found by its equality,
 * serves them all.
 */
export class OutputMajorLinear implements SharedProjection {
  readonly inputs: number;
  readonly outputs: number;

  constructor(
    readonly weight: Variable,
    readonly bias?: Variable,
    /** First row of the weight, and how many. Default: all. */
    readonly rows: readonly [start: number, count: number] = [0, weight.shape[0]!],
  ) {
    this.inputs = weight.shape[1]!;
    this.outputs = rows[1];
  }

  apply(x: Tensor): Tensor {
    const all = this.whole(x);
    const [start, count] = this.rows;
    const leading = x.shape.slice(0, -1).map(() => null);
    const y = count === this.weight.shape[0] ? all : slice(all, [...leading, [start, start + count]]);
    return this.bias ? add(y, this.bias) : y;
  }

  /** The product with all rows of the weight. */
  whole(x: Tensor): Tensor {
    checkInputs(this, x);
    return timesTransposed(x, this.weight);
  }

  /** Layers with the same values as some of one input; their weight is new, the biases are shared. */
  static from(layers: readonly Linear[]): OutputMajorLinear[] {
    const [{ inputs, weight }] = layers as [Linear];
    const total = layers.reduce((n, layer) => n + layer.outputs, 0);
    const data = allocate('float32', total * inputs);
    const starts: number[] = [];
    let start = 0;
    for (const { outputs, weight: part } of layers) {
      starts.push(start);
      for (let i = 0; i < inputs; i++) {
        for (let o = 0; o < outputs; o++) data[(start + o) * inputs + i] = part.data[i * outputs + o]!;
      }
      start += outputs;
    }
    const { name, trainable, role } = weight;
    const turned = new Variable(data, 'float32', [total, inputs], { name, trainable, ...(role && { role }) });
    return layers.map(({ outputs, bias }, n) => new OutputMajorLinear(turned, bias, [starts[n]!, outputs]));
  }
}

/** Properties of a module that project the same input. */
const groups = [
  ['q', 'k', 'v'],
  ['gate', 'up'],
] as const;

/** The linear layers of a module by property, those of one input together. */
function linearGroups(module: Module): string[][] {
  const found = Object.entries(module).flatMap(([key, value]) => (value instanceof Linear ? [key] : []));
  const joint = groups.filter((group) => group.every((key) => found.includes(key)));
  const rest = found.filter((key) => !joint.some((group) => (group as readonly string[]).includes(key)));
  return [...joint.map((group) => [...group]), ...rest.map((key) => [key])];
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
    const layers = module as Record<string, Linear | OutputMajorLinear>;
    for (const keys of linearGroups(module)) {
      const turned = OutputMajorLinear.from(keys.map((key) => layers[key] as Linear));
      keys.forEach((key, n) => {
        layers[key] = turned[n]!;
      });
      count += keys.length;
    }
  }
  return count;
}
