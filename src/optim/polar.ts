import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { add, mul, reciprocal, sqrt, square } from '../core/ops/elementwise.js';
import { constant } from '../core/ops/leaf.js';
import { matmul } from '../core/ops/matmul.js';
import { sum } from '../core/ops/reduce.js';
import { transpose } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import { type PolarPreset, type Polynomial, polarPresets } from './polar-coefficients.js';

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
   * `direct` works on the matrix, `gram` on its small Gram matrix and multiplies the matrix only every
   * third step, which saves work for long ones. Default: whichever takes fewer operations.
   */
  form?: 'direct' | 'gram' | 'auto';
}

/** After this many steps the Gram form multiplies the matrix and forms its Gram matrix anew, for accuracy. */
const restartEvery = 3;

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
    return t < list.length - 1 ? [a / safety, b / safety ** 3, c / safety ** 5] : [a, b, c];
  });
}

/** Multiply-adds of one [m, n] matrix, m ≤ n, in each form; a quintic step, the first of the Gram form is cheaper. */
export function polarCost(m: number, n: number, steps: number): { direct: number; gram: number } {
  const restarts = Math.ceil(steps / restartEvery);
  return {
    direct: steps * (2 * m * m * n + m ** 3),
    // X Xᵀ and Q X of each restart; R = QYQ (none at a restart), R², R·Q.
    gram: restarts * 2 * m * m * n + (steps - restarts) * 4 * m ** 3 + restarts * m ** 3,
  };
}

/** bG + cG² of a symmetric matrix. */
const quadratic = (g: Tensor, b: number, c: number): Tensor =>
  c === 0 ? mul(g, b) : add(mul(g, b), matmul(g, g, { scale: c }));

/** X ← aX + (bG + cG²)X with G = XXᵀ, for each polynomial. */
function direct(x: Tensor, polynomials: readonly Polynomial[]): Tensor {
  let y = x;
  for (const [a, b, c] of polynomials) {
    const g = matmul(y, y, { transposeB: true });
    y = add(mul(y, a), matmul(quadratic(g, b, c), y));
  }
  return y;
}

/**
 * The same with the product Q of the polynomials of G = XXᵀ (Polar Express, appendix F). Q and G commute, and
 * both are symmetric: the Gram matrix of QX is QGQ.
 */
function gram(x: Tensor, polynomials: readonly Polynomial[]): Tensor {
  let y = x;
  for (let start = 0; start < polynomials.length; start += restartEvery) {
    const g = matmul(y, y, { transposeB: true });
    let q: Tensor | undefined;
    for (const [a, b, c] of polynomials.slice(start, start + restartEvery)) {
      const r = q ? matmul(matmul(q, g), q) : g;
      const p = quadratic(r, b, c);
      // (aI + P)Q without a node for the identity matrix in the products.
      q = q ? add(mul(q, a), matmul(p, q)) : add(p, scaledIdentity(g, a));
    }
    y = matmul(q!, y);
  }
  return y;
}

/** a·I, of the size and dtype of a square matrix. */
function scaledIdentity({ shape, dtype }: Tensor, a: number): Tensor {
  const n = shape.at(-1)!;
  const data = allocate(dtype, n * n);
  for (let i = 0; i < n; i++) data[i * n + i] = a;
  return constant(data, [n, n], dtype);
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
  const { safety = 1, form = 'auto' } = options;
  const polynomials = polarSteps(options);
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const isTall = rows > columns;
  const wide = isTall ? swap(x) : x;
  const norm = sqrt(sum(square(wide), [-2, -1], true));
  const unit = mul(wide, reciprocal(add(mul(norm, safety), 1e-7)));
  const cost = polarCost(Math.min(rows, columns), Math.max(rows, columns), polynomials.length);
  const useGram = form === 'gram' || (form === 'auto' && cost.gram < cost.direct);
  const y = (useGram ? gram : direct)(unit, polynomials);
  return isTall ? swap(y) : y;
}

function swap(x: Tensor): Tensor {
  const order = x.shape.map((_, axis) => axis);
  const last = order.length - 1;
  return transpose(x, [...order.slice(0, -2), last, last - 1]);
}
