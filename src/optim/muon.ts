import { AnnealError } from '../core/errors.js';
import { add, greater, mul, reciprocal, sqrt, square, sub, where } from '../core/ops/elementwise.js';
import { concat, split, stack } from '../core/ops/join.js';
import { scalar } from '../core/ops/leaf.js';
import { mean, sum } from '../core/ops/reduce.js';
import { reshape } from '../core/ops/view.js';
import { formatShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Variable } from '../core/variable.js';
import { Optimizer, type OptimizerOptions } from './optimizer.js';
import { type PolarOptions, polarExpress } from './polar.js';

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
  /** [blocks, in, out], or [1, out, in·…] for filters. */
  blocks: Tensor;
  /** The axis of output features in `blocks`. */
  outAxis: 1 | 2;
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
    // Matrices of one size are orthogonalised together: one graph node multiplies them all.
    const groups = new Map<string, Part[]>();
    for (const part of parts) {
      const size = part.blocks.shape.slice(1).join('x');
      groups.set(size, [...(groups.get(size) ?? []), part]);
    }
    for (const group of groups.values()) {
      const factors = orthogonalized(
        group.map((part) => part.blocks),
        this.options.polar ?? {},
      );
      group.forEach((part, i) => {
        this.move(part, factors[i]!, rate);
      });
    }
  }

  protected update(): void {
    throw new Error('Muon updates all parameters at once');
  }

  /** Momentum, and the direction as a stack of matrices. */
  private part(parameter: Variable, gradient: Tensor): Part {
    const { momentum: mu = 0.95, nesterov = true, convention = 'ema', blocks = () => 1 } = this.options;
    checkRole(parameter);
    const fresh = convention === 'ema' ? mul(gradient, 1 - mu) : gradient;
    const old = this.slot(parameter, 'momentum');
    const momentum = add(mul(old, mu), fresh);
    const direction = nesterov ? add(fresh, mul(momentum, mu)) : momentum;
    if (parameter.role === 'filter') {
      const matrix = reshape(direction, [1, parameter.shape[0]!, -1]);
      return { parameter, momentum, blocks: matrix, outAxis: 1 };
    }
    const n = blocks(parameter);
    const out = parameter.shape[1]!;
    if (!Number.isInteger(n) || n < 1 || out % n !== 0)
      throw new AnnealError(
        `muon: ${parameter.name} has ${out} output features, which ${n} blocks do not divide`,
      );
    return { parameter, momentum, blocks: stack(split(direction, n, 1), 0), outAxis: 2 };
  }

  /** Assigns what the orthogonal factor of a parameter's direction makes of it. */
  private move({ parameter, momentum, outAxis }: Part, factor: Tensor, rate: Tensor): void {
    const { scale = 'original', weightDecay = 0, cautious = false } = this.options;
    const [rows, columns] = factor.shape.slice(1) as [number, number];
    const [inputs, outputs] = outAxis === 2 ? [rows, columns] : [columns, rows];
    const normed = this.neuronNormed(parameter, factor, outAxis);
    const flat = assembled(normed, parameter);
    const step = mul(flat, mul(rate, scaleOf(scale, inputs, outputs)));
    let kept: Tensor = parameter;
    if (weightDecay !== 0) {
      const shrink = mul(rate, weightDecay);
      kept = cautious
        ? sub(parameter, mul(where(greater(mul(flat, parameter), 0), parameter, scalar(0)), shrink))
        : mul(parameter, sub(1, shrink));
    }
    this.slot(parameter, 'momentum').assign(momentum);
    parameter.assign(sub(kept, step));
  }

  /** NorMuon's second moment of each output feature; the Frobenius norm stays as it was. */
  private neuronNormed(parameter: Variable, factor: Tensor, outAxis: 1 | 2): Tensor {
    const { neuronNorm } = this.options;
    if (!neuronNorm) return factor;
    const { beta2 } = neuronNorm;
    const energy = mean(square(factor), outAxis === 2 ? 1 : 2, true);
    const second = this.slot(parameter, 'v', energy.shape);
    const next = add(mul(second, beta2), mul(energy, 1 - beta2));
    second.assign(next);
    const scaled = mul(factor, reciprocal(add(sqrt(next), 1e-10)));
    const norm = (t: Tensor) => sqrt(sum(square(t), [1, 2], true));
    return mul(scaled, mul(norm(factor), reciprocal(add(norm(scaled), 1e-10))));
  }
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

/** The polar factors of stacks of equal matrices [blocks, rows, columns], computed as one stack. */
function orthogonalized(stacks: readonly Tensor[], options: PolarOptions): Tensor[] {
  if (stacks.length === 1) return [polarExpress(stacks[0]!, options)];
  const [rows, columns] = stacks[0]!.shape.slice(1) as [number, number];
  const singles = stacks.flatMap((t) => split(t, t.shape[0]!, 0));
  const all = stack(
    singles.map((t) => reshape(t, [rows, columns])),
    0,
  );
  const factors = split(polarExpress(all, options), singles.length, 0);
  let at = 0;
  return stacks.map(({ shape }) => {
    const own = factors.slice(at, at + shape[0]!);
    at += shape[0]!;
    return own.length === 1
      ? own[0]!
      : stack(
          own.map((t) => reshape(t, [rows, columns])),
          0,
        );
  });
}

/** Blocks [n, in, out/n] side by side as a parameter's [in, out]; filters in their own shape. */
function assembled(blocks: Tensor, parameter: Variable): Tensor {
  const n = blocks.shape[0]!;
  if (n === 1) return reshape(blocks, parameter.shape);
  const [rows, columns] = blocks.shape.slice(1) as [number, number];
  const sideBySide = split(blocks, n, 0).map((t) => reshape(t, [rows, columns]));
  return concat(sideBySide, 1);
}

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
