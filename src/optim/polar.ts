import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { add, mul, reciprocal, sqrt, square } from '../core/ops/elementwise.js';
import { split, stack } from '../core/ops/join.js';
import { constant } from '../core/ops/leaf.js';
import { matmul } from '../core/ops/matmul.js';
import { sum } from '../core/ops/reduce.js';
import { slice } from '../core/ops/slice.js';
import { symmetricProduct } from '../core/ops/symmetric.js';
import { reshape } from '../core/ops/view.js';
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

/** A polar factor as a product that is left to the caller: scale · p · y, or scale · y · p where y is tall. */
export interface PolarProduct {
  /** [..., m, m] for the smaller side m. */
  p: Tensor;
  y: Tensor;
  /** [..., 1, 1], or one number for all. */
  scale: Tensor | number;
}

const isTall = ({ shape }: Tensor) => shape.at(-2)! > shape.at(-1)!;

/** p · y, with the small matrix on the smaller side of y. */
export const polarApplied = (p: Tensor, y: Tensor): Tensor => (isTall(y) ? matmul(y, p) : matmul(p, y));

/** Gram matrix of the smaller side. */
const gramOf = (y: Tensor, scale = 1): Tensor =>
  isTall(y)
    ? symmetricProduct(y, y, { transposeA: true, scale })
    : symmetricProduct(y, y, { transposeB: true, scale });

/** What a Gram matrix is scaled by for `quadratic`, beside what is due anyway. */
const lead = ([, b]: Polynomial) => (b === 0 ? 1 : b);

/** bG + cG² from bG, so that it is a product with an addend; from G itself where b is 0. */
function quadratic(g: Tensor, [, b, c]: Polynomial): Tensor {
  if (b === 0) return c === 0 ? mul(g, 0) : symmetricProduct(g, g, { scale: c });
  return c === 0 ? g : symmetricProduct(g, g, { scale: c / (b * b), addend: g });
}

/**
 * Product Q of the polynomials S = a + bR + cR² of a Gram matrix R = G that each step turns into SRS (Polar Express, appendix
 * F). All of them are polynomials of G, so they commute, and every product is symmetric. R and Q are kept without their
 * constant factors, so that each step is products with an addend: with R = λR̃ and V = R̃ + (cλ/b)R̃²,
 *
 *     S/a = I + μV,   μ = bλ/a        R̃ ← (I + μV)²R̃,   λ ← a²λ        Q ← (I + μV)Q
 *
 * R is carried along rather than formed as QGQ: there, what rounding mixes of a large and a small singular value is
 * multiplied by their ratio in every step.
 */
function gramPolynomial(g: Tensor, polynomials: readonly Polynomial[]): { q: Tensor; factor: number } {
  let r = g;
  let lambda = 1;
  let q: Tensor | undefined;
  let factor = 1;
  polynomials.forEach(([a, b, c], t) => {
    // Where b is 0, V is R̃² alone.
    const v = c === 0 ? r : symmetricProduct(r, r, b === 0 ? {} : { scale: (c * lambda) / b, addend: r });
    const mu = b === 0 ? (c * lambda * lambda) / a : (b * lambda) / a;
    const applied = (x: Tensor) => symmetricProduct(v, x, { scale: mu, addend: x });
    q = q ? applied(q) : add(mul(v, mu), identityLike(g));
    if (t < polynomials.length - 1) r = applied(applied(r));
    lambda *= a * a;
    factor *= a;
  });
  return { q: q!, factor };
}

/** The same without the matrix: X ← X + (bG + cG²)X/a, the last step left as a product. */
function directSteps(x: Tensor, polynomials: readonly Polynomial[]) {
  let y = x;
  let factor = 1;
  let p = identityLike(x);
  polynomials.forEach((polynomial, t) => {
    const [a] = polynomial;
    if (t > 0) y = polarApplied(p, y);
    const g = gramOf(y, lead(polynomial) * factor * factor);
    p = add(mul(quadratic(g, polynomial), 1 / a), identityLike(y));
    factor *= a;
  });
  return { p, y, factor };
}

/** The identity of the smaller side. */
function identityLike({ shape, dtype }: Tensor): Tensor {
  const n = Math.min(...shape.slice(-2));
  const data = allocate(dtype, n * n);
  for (let i = 0; i < n; i++) data[i * n + i] = 1;
  return constant(data, [n, n], dtype);
}

/** Frobenius norms [..., 1, 1] of matrices from their Gram matrices: the root of the trace. */
function normOf(gram: Tensor): Tensor {
  const m = gram.shape.at(-1)!;
  const batch = gram.shape.slice(0, -2);
  const diagonal = slice(reshape(gram, [...batch, m * m]), [...batch.map(() => null), [null, null, m + 1]]);
  return reshape(sqrt(sum(diagonal, -1)), [...batch, 1, 1]);
}

/** 1/(norm·safety + 1e-7): zero stays zero. */
const inverse = (norm: Tensor, safety: number) => reciprocal(add(mul(norm, safety), 1e-7));

function usesGram({ shape }: Tensor, polynomials: readonly Polynomial[], form: PolarOptions['form']) {
  if (form === 'direct' || form === 'gram') return form === 'gram';
  const [m, n] = shape.slice(-2).sort((a, b) => a - b) as [number, number];
  const cost = polarCost(m, n, polynomials);
  return cost.gram < cost.direct;
}

/** All products on the smaller side are done for matrices of equal smaller side together; y are the xs, or what restarts made of them. */
function gramProducts(
  xs: readonly Tensor[],
  polynomials: readonly Polynomial[],
  safety: number,
): PolarProduct[] {
  let ys = [...xs];
  let scale: Tensor | undefined;
  const parts = gramParts(polynomials);
  for (const [i, part] of parts.entries()) {
    const raw = together(ys.map((y) => gramOf(y)));
    if (i === 0) scale = inverse(normOf(raw), safety);
    const g = i === 0 ? mul(raw, square(scale!)) : raw;
    const { q, factor } = gramPolynomial(g, part);
    if (i === parts.length - 1) {
      const scales = parts.length === 1 ? mul(scale!, factor) : undefined;
      return ys.map((y, k) => ({
        p: apart(q, xs.length, k),
        y,
        scale: scales ? apart(scales, xs.length, k) : factor,
      }));
    }
    const scaled = mul(q, i === 0 ? mul(scale!, factor) : factor);
    ys = ys.map((y, k) => polarApplied(apart(scaled, xs.length, k), y));
  }
  throw new Error('a list of polynomials has at least one part');
}

/** Elements of the small matrices of a stack: four such stacks stay in a cache of some megabytes. */
const stackElements = 2 ** 20;
/** Matrices in a stack of those like x. */
function stackLength({ shape }: Tensor): number {
  const [batch, m] = [shape.slice(0, -2).reduce((n, dim) => n * dim, 1), Math.min(...shape.slice(-2))];
  return Math.max(1, Math.floor(stackElements / Math.max(1, batch * m * m)));
}

const together = (all: readonly Tensor[]): Tensor => (all.length === 1 ? all[0]! : stack(all, 0));
/** Matrix k of a stack that `together` made of `count`. */
function apart(all: Tensor, count: number, k: number): Tensor {
  if (count === 1) return all;
  return reshape(split(all, count, 0)[k]!, all.shape.slice(1));
}

function directProducts(
  xs: readonly Tensor[],
  polynomials: readonly Polynomial[],
  safety: number,
): PolarProduct[] {
  const x = together(xs);
  // The norm is applied first: later Gram matrices are of what the polynomials left, which has no scale to take out.
  const unit = mul(x, inverse(sqrt(sum(square(x), [-2, -1], true)), safety));
  const { p, y, factor } = directSteps(unit, polynomials);
  return xs.map((_, k) => ({
    p: apart(p, xs.length, k),
    y: apart(y, xs.length, k),
    scale: factor,
  }));
}

/**
 * The polar factors of matrices [m, n] of any sizes, each as a product that the caller forms, alone or with what follows it.
 * Matrices of equal sizes, in the Gram form of equal smaller sides, are computed as one stack.
 * @throws AnnealError for unknown coefficients.
 */
export function polarProducts(xs: readonly Tensor[], options: PolarOptions = {}): PolarProduct[] {
  const { safety = 1, form = 'auto' } = options;
  const polynomials = polarSteps(options);
  const groups = new Map<string, { isGram: boolean; indices: number[] }>();
  const counts = new Map<string, number>();
  xs.forEach((x, i) => {
    const isGram = usesGram(x, polynomials, form);
    const key = isGram ? `gram ${Math.min(...x.shape.slice(-2))}` : x.shape.join('x');
    const count = counts.get(key) ?? 0;
    counts.set(key, count + 1);
    const stackKey = `${key}, ${Math.floor(count / stackLength(x))}`;
    const group = groups.get(stackKey) ?? { isGram, indices: [] };
    group.indices.push(i);
    groups.set(stackKey, group);
  });
  const results: PolarProduct[] = [];
  for (const { isGram, indices } of groups.values()) {
    const compute = isGram ? gramProducts : directProducts;
    const found = compute(
      indices.map((i) => xs[i]!),
      polynomials,
      safety,
    );
    indices.forEach((i, k) => {
      results[i] = found[k]!;
    });
  }
  return results;
}

/**
 * The orthogonal polar factor UVᵀ of matrices x = UΣVᵀ, approximately: [..., m, n], batch axes in front. Only
 * matrix products (Amsel, Persson, Musco and Gower 2025, "The Polar Express", Algorithm 1): the small side
 * comes first. Zero stays zero. After `steps` polynomials of the default list all singular values above
 * 1/1000 of the Frobenius norm lie within 0.124 of 1.
 * @throws AnnealError if x has fewer than two axes, or for unknown coefficients.
 */
export function polarExpress(x: Tensor, options: PolarOptions = {}): Tensor {
  if (x.rank < 2) throw new AnnealError(`polarExpress: needs a matrix, not a tensor with ${x.rank} axes`);
  const [{ p, y, scale }] = polarProducts([x], options) as [PolarProduct];
  return polarApplied(mul(p, scale), y);
}
