/** What the Polar Express is going to do: which polynomials, in which form, and which matrices together. */
import { AnnealError } from '../core/errors.js';
import type { Tensor } from '../core/tensor.js';
import { evaluatePolynomial, type PolarPreset, type Polynomial, polarPresets } from './polar-coefficients.js';

/** Settings of `polarExpress`. */
export interface PolarOptions {
  /** A named list, or a list of one's own, continued with its last entry. Default `paper`. */
  coefficients?: PolarPreset | readonly Polynomial[];
  /** Number of polynomials applied. Default 5, as in Muon. */
  steps?: number;
  /**
   * Every polynomial p(σ) but the last of the list becomes p(σ/safety), and the norm is multiplied by it: in
   * bfloat16 the paper needs 1.01. Default 1, enough in float32.
   */
  safety?: number;
  /**
   * `direct` works on the matrix, `gram` on its small Gram matrix and multiplies the matrix only at the end, which
   * saves work for long ones. Default: whichever takes fewer operations.
   */
  form?: 'direct' | 'gram' | 'auto';
}

/** The Gram form begins anew where rounding would exceed this share of the error that the polynomials leave, or this much. */
const roundingShare = 1 / 8;
const leastRounding = 1e-4;
const float32Epsilon = 2 ** -24;

/** The first `steps` polynomials, with the safety factor. */
export function polarSteps(options: PolarOptions): Polynomial[] {
  const { coefficients = 'paper', steps = 5, safety = 1 } = options;
  const list: readonly Polynomial[] =
    typeof coefficients === 'string' ? polarPresets[coefficients] : coefficients;
  if (list === undefined || list.length === 0) {
    throw new AnnealError(
      `polarExpress: no coefficients "${String(coefficients)}"; presets are ${Object.keys(polarPresets).join(', ')}`,
    );
  }
  if (!Number.isInteger(steps) || steps < 1)
    throw new AnnealError(`polarExpress: steps must be a positive integer, not ${steps}`);
  return Array.from({ length: steps }, (_, t) => {
    const [a, b, c] = list[Math.min(t, list.length - 1)]!;
    if (!(a > 0))
      throw new AnnealError(`polarExpress: the first coefficient of a step must be positive, not ${a}`);
    return t < list.length - 1 ? [a / safety, b / safety ** 3, c / safety ** 5] : [a, b, c];
  });
}

/** Largest error of a composition for singular values from 1/1000 on. */
function errorLeft(polynomials: readonly Polynomial[]): number {
  const sigma = Array.from({ length: 200 }, (_, i) => 10 ** ((-3 * i) / 199));
  const errors = sigma.map((s) => Math.abs(1 - polynomials.reduce((x, p) => evaluatePolynomial(p, x), s)));
  return Math.max(...errors);
}

/**
 * Parts of a list between which the Gram form multiplies the matrix and forms its Gram matrix anew. Polynomials multiply
 * small singular values by at most a, so rounding in the Gram matrix by at most Πa²: a part ends before that shows beside
 * the error that the whole list leaves.
 */
export function gramParts(polynomials: readonly Polynomial[]): Polynomial[][] {
  const tolerance = Math.max(leastRounding, roundingShare * errorLeft(polynomials));
  const parts: Polynomial[][] = [];
  let gain = Number.POSITIVE_INFINITY;
  for (const polynomial of polynomials) {
    if (gain * gain * float32Epsilon > tolerance) {
      parts.push([]);
      gain = 1;
    }
    parts.at(-1)!.push(polynomial);
    gain *= Math.max(1, polynomial[0]);
  }
  return parts;
}

/** Multiply-adds of one [m, n] matrix, m ≤ n, in each form, symmetric products counted in full. */
export function polarCost(
  m: number,
  n: number,
  polynomials: readonly Polynomial[],
): { direct: number; gram: number } {
  const cubic = (p: Polynomial) => (p[2] === 0 ? 0 : 1);
  const direct = polynomials.reduce((total, p) => total + 2 * m * m * n + cubic(p) * m ** 3, 0);
  const gram = gramParts(polynomials).reduce((total, part) => {
    // The first step of a part has its Gram matrix and writes its polynomial down; the others need three products more.
    const small = part.reduce((count, p, i) => count + cubic(p) + (i === 0 ? 0 : 3), 0);
    return total + 2 * m * m * n + small * m ** 3;
  }, 0);
  return { direct, gram };
}

function usesGram({ shape }: Tensor, polynomials: readonly Polynomial[], form: PolarOptions['form']) {
  if (form === 'direct' || form === 'gram') return form === 'gram';
  const [m, n] = shape.slice(-2).sort((a, b) => a - b) as [number, number];
  const cost = polarCost(m, n, polynomials);
  return cost.gram < cost.direct;
}

/** Elements of the small matrices of a stack: four such stacks stay in a cache of some megabytes. */
const stackElements = 2 ** 20;
/** Nodes of the backend's own take no more operands than some dozens, and the last products have three for each matrix. */
const mostMatrices = 16;
/** Matrices in each stack of `count` like x: as many in all of them as far as that goes, and an even number. */
function stackLength({ shape }: Tensor, count: number): number {
  const [batch, m] = [shape.slice(0, -2).reduce((n, dim) => n * dim, 1), Math.min(...shape.slice(-2))];
  const most = Math.min(mostMatrices, Math.max(2, Math.floor(stackElements / Math.max(1, batch * m * m))));
  const stacks = Math.ceil(count / most);
  return 2 * Math.ceil(count / stacks / 2);
}

/** Matrices that are computed as one stack: their places, in the order of their sizes. */
export interface Group {
  isGram: boolean;
  indices: number[];
}

/** Groups of equal sizes, or in the Gram form of equal smaller sides. */
export function groupsOf(
  xs: readonly Tensor[],
  polynomials: readonly Polynomial[],
  form: PolarOptions['form'],
): Group[] {
  const alike = new Map<string, Group>();
  // Equal sizes follow one another, so that a kernel is made for few kinds of them.
  const order = xs.map((x, i) => ({ x, i, shape: x.shape.join('x') }));
  order.sort((a, b) => (a.shape < b.shape ? -1 : a.shape > b.shape ? 1 : a.i - b.i));
  for (const { x, i, shape } of order) {
    const isGram = usesGram(x, polynomials, form);
    const batch = x.shape.slice(0, -2).join('x');
    const key = isGram ? `gram ${batch} ${Math.min(...x.shape.slice(-2))}` : shape;
    const group = alike.get(key) ?? { isGram, indices: [] };
    group.indices.push(i);
    alike.set(key, group);
  }
  return [...alike.values()].flatMap(({ isGram, indices }) => {
    const length = stackLength(xs[indices[0]!]!, indices.length);
    const stacks = Math.ceil(indices.length / length);
    return Array.from({ length: stacks }, (_, k) => ({
      isGram,
      indices: indices.slice(k * length, (k + 1) * length),
    }));
  });
}
