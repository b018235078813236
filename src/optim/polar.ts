import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { add, mul, reciprocal, sqrt, square } from '../core/ops/elementwise.js';
import { split, stack } from '../core/ops/join.js';
import { constant } from '../core/ops/leaf.js';
import { matmul } from '../core/ops/matmul.js';
import { sum } from '../core/ops/reduce.js';
import { slice } from '../core/ops/slice.js';
import { diagonal, gramMatrices, gramMatrix, symmetricProduct } from '../core/ops/symmetric.js';
import { reshape } from '../core/ops/view.js';
import type { Tensor } from '../core/tensor.js';
import type { Polynomial } from './polar-coefficients.js';
import { gramParts, groupsOf, type PolarOptions, polarSteps } from './polar-plan.js';

/** A polar factor, times a factor, as a product that is left to the caller: p · y, or y · p where y is tall. */
export interface PolarProduct {
  /** p is this one of the stack. */
  index: number;
  /** [n, ..., m, m] for the smaller side m. */
  stack: Tensor;
  y: Tensor;
}

const isTall = ({ shape }: Tensor) => shape.at(-2)! > shape.at(-1)!;

/** y times a small matrix on its smaller side. */
const applied = (p: Tensor, y: Tensor): Tensor => (isTall(y) ? matmul(y, p) : matmul(p, y));

/** The polar factor. */
export function polarApplied({ index, stack, y }: PolarProduct): Tensor {
  const p = split(stack, stack.shape[0]!, 0)[index]!;
  return applied(reshape(p, stack.shape.slice(1)), y);
}

/**
 * I + βG + γG² as one product, in the form I + β(G + (γ/β)G²): what cancels does so before it is rounded twice, which is
 * worth a factor of two to three in the polar factor's error.
 */
function quadratic(g: Tensor, beta: number, gamma: number): Tensor {
  if (gamma === 0) return add(mul(g, beta), diagonal(g.shape.at(-1)!, 1, g.dtype));
  if (beta === 0) return symmetricProduct(g, g, { scale: gamma, identity: 1 });
  return symmetricProduct(g, g, { weight: gamma / beta, addend: g, scale: beta, identity: 1 });
}

/**
 * Product Q of the polynomials S = a + bR + cR² of a Gram matrix R = G that each step turns into SRS (Polar Express, appendix
 * F), times a factor. All of them are polynomials of G, so they commute, and every product is symmetric. R and Q are kept without
 * their constant factors: with R = λR̃,
 *
 *     W = S/a = I + (bλ/a)R̃ + (cλ²/a)R̃²        R̃ ← W(WR̃),   λ ← a²λ        Q ← WQ
 *
 * R is carried along rather than formed as QGQ: there, what rounding mixes of a large and a small singular value is
 * multiplied by their ratio in every step.
 */
function gramPolynomial(g: Tensor, polynomials: readonly Polynomial[], factor: Tensor | number): Tensor {
  let r = g;
  let lambda = 1;
  let q: Tensor | undefined;
  polynomials.forEach(([a, b, c], t) => {
    const w = quadratic(r, (b * lambda) / a, (c * lambda * lambda) / a);
    const isLast = t === polynomials.length - 1;
    if (q) q = symmetricProduct(w, q, isLast ? { scale: factor } : {});
    else q = isLast ? mul(w, factor) : w;
    if (!isLast) r = symmetricProduct(w, symmetricProduct(w, r));
    lambda *= a * a;
  });
  return q!;
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

/** Πa, the factor that the products leave out. */
const gainOf = (polynomials: readonly Polynomial[]) => polynomials.reduce((gain, [a]) => gain * a, 1);

const times = (a: Tensor | number, b: Tensor | number) =>
  typeof a === 'number' && typeof b === 'number' ? a * b : mul(a, b);

/** What is done to a stack of matrices: the polynomials, the safety factor, and factors [n, ..., 1, 1] on the results. */
interface Work {
  polynomials: readonly Polynomial[];
  safety: number;
  factors: Tensor | number;
}

/** All products on the smaller side are done for matrices of equal smaller side together; y are the xs, or what restarts made of them. */
function gramProducts(xs: readonly Tensor[], { polynomials, safety, factors }: Work): PolarProduct[] {
  let ys = [...xs];
  const parts = gramParts(polynomials);
  let due: Tensor | number = 1;
  for (const [i, part] of parts.entries()) {
    let g = gramMatrices(ys);
    if (i === 0) {
      const scale = inverse(normOf(g), safety);
      // Before anything is squared: entries of a Gram matrix may be as small as the squares of a gradient's.
      g = mul(g, square(scale));
      due = scale;
    }
    const isLast = i === parts.length - 1;
    const gain = times(due, gainOf(part));
    const q = gramPolynomial(g, part, isLast ? times(gain, factors) : gain);
    const products = ys.map((y, index) => ({ index, stack: q, y }));
    if (isLast) return products;
    ys = products.map(polarApplied);
    due = 1;
  }
  throw new Error('a list of polynomials has at least one part');
}

/** X ← X + (βG + γG²)X for the Gram matrix G of what the polynomials have made of x, the last step left as a product. */
function directProducts(xs: readonly Tensor[], { polynomials, safety, factors }: Work): PolarProduct[] {
  let y = stack(xs, 0);
  let gram = gramMatrix(y);
  const scale = inverse(normOf(gram), safety);
  gram = mul(gram, square(scale));
  let p: Tensor | undefined;
  polynomials.forEach(([a, b, c], t) => {
    if (p) {
      y = applied(p, y);
      // y is without its constant factors and the norm.
      gram = gramMatrix(y, square(mul(scale, gainOf(polynomials.slice(0, t)))));
    }
    p = quadratic(gram, b / a, c / a);
  });
  const last = mul(p!, mul(mul(scale, gainOf(polynomials)), factors));
  return split(y, xs.length, 0).map((one, index) => ({
    index,
    stack: last,
    y: reshape(one, xs[index]!.shape),
  }));
}

/** Factors on the results: one for all, a number or computed, and a number for each. */
export interface PolarFactors {
  common: Tensor;
  each: readonly number[];
}

/**
 * The polar factors of matrices [m, n] of any sizes, each as a product that the caller forms, alone or with what follows it.
 * Matrices of equal sizes, in the Gram form of equal smaller sides, are computed as one stack.
 * @throws AnnealError for unknown coefficients.
 */
export function polarProducts(
  xs: readonly Tensor[],
  options: PolarOptions = {},
  factors?: PolarFactors,
): PolarProduct[] {
  const { safety = 1, form = 'auto' } = options;
  const polynomials = polarSteps(options);
  const results: PolarProduct[] = [];
  for (const { isGram, indices } of groupsOf(xs, polynomials, form)) {
    const [first] = indices;
    const { dtype, rank } = xs[first!]!;
    const each = () => {
      const data = allocate(dtype, indices.length);
      data.set(indices.map((i) => factors!.each[i]!));
      return constant(data, [indices.length, ...Array(rank).fill(1)], dtype);
    };
    const compute = isGram ? gramProducts : directProducts;
    const found = compute(
      indices.map((i) => xs[i]!),
      { polynomials, safety, factors: factors ? mul(factors.common, each()) : 1 },
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
  return polarApplied(polarProducts([x], options)[0]!);
}
