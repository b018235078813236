import { AnnealError } from '../core/errors.js';
import { addProducts } from '../core/ops/add-products.js';
import { add, greater, mul, reciprocal, sqrt, square, sub, where } from '../core/ops/elementwise.js';
import { concat, split, stack } from '../core/ops/join.js';
import { nesterov } from '../core/ops/momentum.js';
import { mean, sum } from '../core/ops/reduce.js';
import { reshape } from '../core/ops/view.js';
import { formatShape, sameShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { Optimizer, type OptimizerOptions } from './optimizer.js';
import { type PolarProduct, polarApplied, polarProducts } from './polar.js';
import type { PolarOptions } from './polar-plan.js';

/**
 * Factor on the orthogonal update of a map from n to m features.
 *
 * | rule | factor | meaning of the learning rate |
 * | --- | --- | --- |
 * | original | √max(1, m/n) | Jordan 2024 and torch.optim.Muon: 0.02 is typical |
 * | match-adamw | 0.2·√max(m, n) | AdamW's learning rate and decay carry over (Moonlight, Liu et al. 2025) |
 * | spectral | √(m/n) | carries over between widths (Bernstein 2025) |
 */
export type MuonScale = 'original' | 'match-adamw' | 'spectral';

/** Settings of Muon. */
export interface MuonOptions extends OptimizerOptions {
  /** Decay of the momentum. Default 0.95. */
  momentum?: number;
  /** Steps along the momentum as it will be after the next gradient like this one. Default true. */
  nesterov?: boolean;
  /** `ema`: B ← μB + (1-μ)G (Jordan). `sum`: B ← μB + G (Moonlight, PyTorch). The direction is the same. Default ema. */
  convention?: 'ema' | 'sum';
  /** Decoupled: each update first shrinks the parameter by lr·weightDecay. Default 0. */
  weightDecay?: number;
  /** Decay only what the update shrinks, too (cautious weight decay). Default false. */
  cautious?: boolean;
  /** Default `original`. */
  scale?: MuonScale;
  /** How the update is orthogonalised. Default: the Polar Express, five steps. */
  polar?: PolarOptions;
  /**
   * Number of equal blocks of output features that are orthogonalised on their own: three for a fused
   * query-key-value matrix, the number of heads for one block a head. Default 1.
   */
  blocks?: (parameter: Variable) => number;
  /** NorMuon (Li et al. 2025): divides by a running root mean square of each output feature's row. Default: off. */
  neuronNorm?: { beta2: number };
}

/** A parameter's update on its way: matrices of one size, and how they lie in it. */
interface Part {
  parameter: Variable;
  momentum: Tensor;
  /** [in, out] of each block of output features, or one [out, in·…] for filters. */
  blocks: Tensor[];
  /** The axis of output features in a block. */
  outAxis: 0 | 1;
}

class Muon extends Optimizer {
  protected readonly name = 'muon';

  constructor(private readonly options: MuonOptions) {
    super(options);
  }

  protected override updateAll(
    parameters: readonly Variable[],
    gradients: readonly Tensor[],
    rate: Tensor,
  ): void {
    const parts = parameters.map((parameter, i) => this.part(parameter, gradients[i]!));
    const blocks = parts.flatMap((part) => part.blocks);
    // Where the product alone is what moves the parameter, the step is part of its small factor.
    const factors = this.isPlain
      ? {
          common: mul(rate, -1),
          each: parts.flatMap((part) => part.blocks.map(() => this.scale(part))),
        }
      : undefined;
    const products = polarProducts(blocks, this.options.polar, factors);
    const { weightDecay = 0 } = this.options;
    const keep = weightDecay === 0 ? undefined : sub(1, mul(rate, weightDecay));
    const moved = this.isPlain ? movedTogether(parts, products, keep) : new Map<Variable, Tensor>();
    let at = 0;
    for (const part of parts) {
      const { parameter, momentum } = part;
      const mine = products.slice(at, at + part.blocks.length);
      at += part.blocks.length;
      this.slot(parameter, 'momentum').assign(momentum);
      parameter.assign(moved.get(parameter) ?? this.moved(part, mine, rate, keep));
    }
  }

  protected update(): void {
    throw new Error('Muon updates all parameters at once');
  }

  /** Nothing happens to the polar factors but that they are scaled. */
  private get isPlain(): boolean {
    return !this.options.neuronNorm && !this.options.cautious;
  }

  /** Factor on the polar factor of a part's blocks beside the learning rate. */
  private scale({ blocks, outAxis }: Part): number {
    const [block] = blocks as [Tensor];
    return scaleOf(this.options.scale ?? 'original', block.shape[1 - outAxis]!, block.shape[outAxis]!);
  }

  /** Momentum, and the direction as matrices. */
  private part(parameter: Variable, gradient: Tensor): Part {
    const { momentum: mu = 0.95, nesterov: looksAhead = true, convention = 'ema', blocks } = this.options;
    checkRole(parameter);
    const factors = { decay: mu, fresh: convention === 'ema' ? 1 - mu : 1 };
    const [momentum, ahead] = nesterov(this.slot(parameter, 'momentum'), gradient, factors);
    const direction = looksAhead ? ahead : momentum;
    if (parameter.role === 'filter') {
      return { parameter, momentum, blocks: [reshape(direction, [parameter.shape[0]!, -1])], outAxis: 0 };
    }
    const n = blocks?.(parameter) ?? 1;
    const out = parameter.shape[1]!;
    if (!Number.isInteger(n) || n < 1 || out % n !== 0)
      throw new AnnealError(
        `muon: ${parameter.name} has ${out} output features, which ${n} blocks do not divide`,
      );
    return { parameter, momentum, blocks: split(direction, n, 1), outAxis: 1 };
  }

  /** A parameter after the update by the polar factors of its direction; `keep` is what decay leaves of it. */
  private moved(part: Part, products: readonly PolarProduct[], rate: Tensor, keep?: Tensor): Tensor {
    const { parameter, outAxis } = part;
    const results = products.map(polarApplied);
    if (this.isPlain) {
      // The product is added to the parameter as it is formed.
      return add(keep ? mul(parameter, keep) : parameter, assembled(results, parameter));
    }
    const flat = assembled(this.neuronNormed(parameter, results, outAxis), parameter);
    const step = mul(flat, mul(rate, this.scale(part)));
    if (!keep) return sub(parameter, step);
    const isShrunk = this.options.cautious && greater(mul(flat, parameter), 0);
    const decayed = isShrunk ? where(isShrunk, mul(parameter, keep), parameter) : mul(parameter, keep);
    return sub(decayed, step);
  }

  /** NorMuon's second moment of each output feature; the Frobenius norm of a block stays as it was. */
  private neuronNormed(parameter: Variable, factors: Tensor[], outAxis: 0 | 1): Tensor[] {
    const { neuronNorm } = this.options;
    if (!neuronNorm) return factors;
    const { beta2 } = neuronNorm;
    const energies = factors.map((factor) => mean(square(factor), 1 - outAxis, true));
    const second = this.slot(parameter, 'v', [factors.length, ...energies[0]!.shape]);
    const next = add(mul(second, beta2), mul(stack(energies, 0), 1 - beta2));
    second.assign(next);
    const norm = (t: Tensor) => sqrt(sum(square(t), [0, 1], true));
    return split(next, factors.length, 0).map((moment, i) => {
      const factor = factors[i]!;
      const rms = sqrt(reshape(moment, energies[i]!.shape));
      const scaled = mul(factor, reciprocal(add(rms, 1e-10)));
      return mul(scaled, mul(norm(factor), reciprocal(add(norm(scaled), 1e-10))));
    });
  }
}

/** Parameters that are one block, updated by one node for each stack of small factors that serves only such. */
function movedTogether(
  parts: readonly Part[],
  products: readonly PolarProduct[],
  keep?: Tensor,
): Map<Variable, Tensor> {
  const owners = parts.flatMap(({ parameter, blocks }) => blocks.map(() => parameter));
  const stacks = new Map<Tensor, { parameter: Variable; y: Tensor }[]>();
  products.forEach(({ stack: small, index, y }, i) => {
    const parameter = owners[i]!;
    const members = stacks.get(small) ?? [];
    stacks.set(small, members);
    if (sameShape(parameter.shape, y.shape)) members[index] = { parameter, y };
  });
  const moved = new Map<Variable, Tensor>();
  for (const [small, members] of stacks) {
    // A stack in which other blocks have a place, too, is left to what assembles them.
    if (Object.keys(members).length !== small.shape[0]) continue;
    const [ws, ys] = [members.map(({ parameter }) => parameter), members.map(({ y }) => y)];
    addProducts(ws, ys, small, keep).forEach((next, index) => {
      moved.set(ws[index]!, next);
    });
  }
  return moved;
}

function checkRole(parameter: Variable): void {
  const { name, role, rank } = parameter;
  const what = `"${name}" ${formatShape(parameter.shape)}`;
  if (role === undefined) {
    throw new AnnealError(
      `muon: ${what} has no role; make it with variable(…, { role: 'matrix' }) if it is a linear map, or give it to another optimiser`,
    );
  }
  if (role !== 'matrix' && role !== 'filter')
    throw new AnnealError(
      `muon: ${what} has the role "${role}" and is no linear map; give it to another optimiser`,
    );
  if (role === 'matrix' ? rank !== 2 : rank < 3)
    throw new AnnealError(`muon: ${what} cannot have the role "${role}"`);
}

/** Blocks [in, out/n] side by side as a parameter's [in, out]; filters in their own shape. */
const assembled = (blocks: readonly Tensor[], parameter: Variable): Tensor =>
  blocks.length > 1 ? concat(blocks, 1) : reshape(blocks[0]!, parameter.shape);

function scaleOf(rule: MuonScale, inputs: number, outputs: number): number {
  if (rule === 'original') return Math.sqrt(Math.max(1, outputs / inputs));
  if (rule === 'spectral') return Math.sqrt(outputs / inputs);
  return 0.2 * Math.sqrt(Math.max(inputs, outputs));
}

/**
 * Muon: momentum, then the orthogonal polar factor of it as the update, for linear maps and filters only
 * (Jordan 2024; Polar Express, section 5). Embeddings, heads, gains and biases need another optimiser:
 * see `groups`.
 * @throws AnnealError when a parameter without a role, or with another one, is given to it.
 */
export function muon(options: MuonOptions): Optimizer {
  const { momentum = 0.95 } = options;
  if (!(momentum >= 0 && momentum < 1))
    throw new AnnealError(`muon: momentum must be in [0, 1), not ${momentum}`);
  return new Muon(options);
}
