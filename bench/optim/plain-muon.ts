/**
 * Muon as its pseudocode reads, for the rows that show what the library's form of it saves: every matrix is multiplied as
 * it stands, one after the other, five steps of three whole products.
 */
import { concat, matmul, polarPresets, split, type Tensor, type Variable, variable, zeros } from 'anneal';

/** What a variant leaves out. */
export interface PlainOptions {
  /** Puts the smaller side in front, as the Gram matrix is then the smaller one. */
  smallSideFirst: boolean;
  /** Multiplies matrices of one size as one stack. */
  batched: boolean;
}

/** One step of Muon with Nesterov momentum 0.95: assigns the parameters. To be called while a program is traced. */
export class PlainMuon {
  readonly #momenta = new Map<Variable, Variable>();

  constructor(
    private readonly rate: number,
    private readonly options: PlainOptions,
  ) {}

  apply(gradients: readonly Tensor[], parameters: readonly Variable[]): void {
    const directions = parameters.map((parameter, i) => this.#direction(parameter, gradients[i]!));
    const factors = this.options.batched ? stacked(directions, this.#polar) : directions.map(this.#polar);
    parameters.forEach((parameter, i) => {
      const [inputs, outputs] = parameter.shape as [number, number];
      const scale = this.rate * Math.sqrt(Math.max(1, outputs / inputs));
      parameter.assign(parameter.sub(factors[i]!.mul(scale)));
    });
  }

  #direction(parameter: Variable, gradient: Tensor): Tensor {
    let old = this.#momenta.get(parameter);
    if (!old) {
      old = variable(zeros(parameter.shape), { name: `${parameter.name}.plain`, trainable: false });
      this.#momenta.set(parameter, old);
    }
    const fresh = gradient.mul(0.05);
    const momentum = old.mul(0.95).add(fresh);
    old.assign(momentum);
    return momentum.mul(0.95).add(fresh);
  }

  /** Algorithm 1 of the Polar Express, on [..., m, n]. */
  #polar = (x: Tensor): Tensor => {
    const turned = x.shape.map((_, axis) => axis);
    turned.push(...turned.splice(-2).reverse());
    const isTurned = this.options.smallSideFirst && x.shape.at(-2)! > x.shape.at(-1)!;
    const start = isTurned ? x.transpose(turned) : x;
    const norm = start.square().sum([-2, -1], true).sqrt();
    let y = start.div(norm.add(1e-7));
    for (const [a, b, c] of polarPresets.paper.slice(0, 5)) {
      const gram = matmul(y, y, { transposeB: true });
      const quadratic = gram.mul(b).add(matmul(gram, gram).mul(c));
      y = y.mul(a).add(matmul(quadratic, y));
    }
    return isTurned ? y.transpose(turned) : y;
  };
}

/** Applies `polar` to stacks of equal sizes. */
function stacked(directions: readonly Tensor[], polar: (x: Tensor) => Tensor): Tensor[] {
  const bySize = new Map<string, number[]>();
  directions.forEach(({ shape }, i) => {
    const size = shape.join('x');
    bySize.set(size, [...(bySize.get(size) ?? []), i]);
  });
  const results: Tensor[] = [];
  for (const indices of bySize.values()) {
    const all = concat(
      indices.map((i) => directions[i]!.reshape([1, ...directions[i]!.shape])),
      0,
    );
    split(polar(all), indices.length, 0).forEach((part, k) => {
      const i = indices[k]!;
      results[i] = part.reshape(directions[i]!.shape);
    });
  }
  return results;
}
