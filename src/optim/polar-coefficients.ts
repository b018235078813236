import { AnnealError } from '../core/errors.js';

/**
 * One step of an odd polynomial iteration on singular values: σ ← aσ + bσ³ + cσ⁵, as a function of a
 * matrix X ← aX + b(XXᵀ)X + c(XXᵀ)²X.
 */
export type Polynomial = readonly [a: number, b: number, c: number];

/** Value of an odd polynomial at a singular value. */
export const evaluatePolynomial = ([a, b, c]: Polynomial, s: number): number => {
  const square = s * s;
  return s * (a + square * (b + square * c));
};

/** Below this relative width of the interval the limit of the polynomials is exact to rounding. */
const degenerate = 5e-6;

/** The cubic that is closest to 1 on [l, u] (Polar Express, section 3.2; closed form). */
function optimalCubic(l: number, u: number): Polynomial {
  const alpha = Math.sqrt(3 / (u * u + l * u + l * l));
  const beta = 4 / (2 + l * u * (l + u) * alpha ** 3);
  return [1.5 * alpha * beta, -0.5 * alpha ** 3 * beta, 0];
}

/**
 * The odd quintic x(a + bt + ct²), t = x², that deviates from 1 by +E, -E, +E, -E at four points, and E.
 * a + bt + ct² interpolates (1 - σE)/x. In Newton's form every difference of 1/x = t^(-1/2) has a closed form
 * without cancellation, so that the result is exact to rounding on the narrow intervals of the late steps, too.
 */
function levelledQuintic(points: readonly [number, number, number, number]): [Polynomial, number] {
  const [x0, x1, x2, x3] = points;
  const [t0, t1, t2, t3] = points.map((x) => x * x) as [number, number, number, number];
  const first = (x: number, y: number) => -1 / (x * y * (x + y));
  const second = (x: number, y: number, z: number) => (x + y + z) / (x * y * z * (x + y) * (y + z) * (x + z));
  const third = (second(x0, x1, x2) - second(x1, x2, x3)) / (t0 - t3);
  // The same differences of σ/x, whose signs alternate.
  const g01 = (1 / x0 + 1 / x1) / (t0 - t1);
  const g12 = -(1 / x1 + 1 / x2) / (t1 - t2);
  const g23 = (1 / x2 + 1 / x3) / (t2 - t3);
  const g012 = (g01 - g12) / (t0 - t2);
  const g123 = (g12 - g23) / (t1 - t3);
  // A quadratic has no third difference.
  const error = third / ((g012 - g123) / (t0 - t3));
  const n1 = first(x0, x1) - error * g01;
  const c = second(x0, x1, x2) - error * g012;
  return [[(1 - error) / x0 - n1 * t0 + c * t0 * t1, n1 - c * (t0 + t1), c], error];
}

/**
 * The odd quintic that is closest to 1 on [l, u], by Remez' exchange: the error takes its extreme value with
 * alternating signs at l, two interior points and u (Polar Express, appendix, Algorithm 2).
 */
function optimalQuintic(l: number, u: number): Polynomial {
  const middle = (l + u) / 2;
  if (l / u >= 1 - degenerate) return [15 / 8 / middle, -10 / 8 / middle ** 3, 3 / 8 / middle ** 5];
  let q = (3 * l + u) / 4;
  let r = (l + 3 * u) / 4;
  let previous = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 100; round++) {
    const [polynomial, error] = levelledQuintic([l, q, r, u]);
    if (Math.abs(error - previous) <= 1e-15) return polynomial;
    previous = error;
    const [a, b, c] = polynomial;
    // The extremes of p inside the interval.
    const root = Math.sqrt(9 * b * b - 20 * a * c);
    q = Math.sqrt((-3 * b - root) / (10 * c));
    r = Math.sqrt((-3 * b + root) / (10 * c));
  }
  throw new AnnealError(`optimalComposition: no best quintic found on [${l}, ${u}]`);
}

/** Settings of `optimalComposition`. */
export interface CompositionOptions {
  /** Smallest singular value that must converge, relative to the largest. Default 1e-3. */
  lower?: number;
  /** Number of polynomials. */
  steps: number;
  /** 3 (two matrix products a step) or 5 (three). Default 5. */
  degree?: 3 | 5;
  /**
   * The interval's lower end is raised to at least this fraction of its upper end, and the result centred
   * again: otherwise a step maps some large singular values almost to 0, where low precision loses them.
   * Default 0.02407327424182761, the paper's.
   */
  cushion?: number;
  /** Every polynomial p(σ) becomes p(σ/safety), so that rounding above the interval's end cannot diverge. Default 1. */
  safety?: number;
  /** `after`: the list is computed first, then made safe (paper). `inside`: each step sees the safe ones before it. Default after. */
  safetyMode?: 'after' | 'inside';
}

const scaleArgument = ([a, b, c]: Polynomial, by: number): Polynomial => [a / by, b / by ** 3, c / by ** 5];
const scaleValue = ([a, b, c]: Polynomial, by: number): Polynomial => [a * by, b * by, c * by];

/**
 * Coefficients of the Polar Express (Amsel et al. 2025, Theorem 4.1): each polynomial is the best one on the
 * interval that the ones before leave, which makes the whole composition the best one. The last polynomial
 * carries no safety factor.
 * @throws AnnealError for a lower end outside (0, 1), no steps, a cushion outside [0, 1) or a safety below 1.
 */
export function optimalComposition(options: CompositionOptions): Polynomial[] {
  const {
    lower = 1e-3,
    steps,
    degree = 5,
    cushion = 0.02407327424182761,
    safety = 1,
    safetyMode = 'after',
  } = options;
  if (!(lower > 0 && lower < 1))
    throw new AnnealError(`optimalComposition: lower must be in (0, 1), not ${lower}`);
  if (!Number.isInteger(steps) || steps < 1)
    throw new AnnealError(`optimalComposition: steps must be a positive integer, not ${steps}`);
  if (!(cushion >= 0 && cushion < 1))
    throw new AnnealError(`optimalComposition: cushion must be in [0, 1), not ${cushion}`);
  if (!(safety >= 1)) throw new AnnealError(`optimalComposition: safety must be at least 1, not ${safety}`);
  const best = degree === 3 ? optimalCubic : optimalQuintic;
  const list: Polynomial[] = [];
  let [l, u] = [lower, 1];
  for (let t = 0; t < steps; t++) {
    let p = best(Math.max(l, cushion * u), u);
    // Centre it on 1 over the true interval: 1 - p(l) = p(u) - 1.
    if (cushion * u > l) p = scaleValue(p, 2 / (evaluatePolynomial(p, l) + evaluatePolynomial(p, u)));
    const isLast = t === steps - 1;
    if (safetyMode === 'inside' && !isLast) p = scaleArgument(p, safety);
    list.push(safetyMode === 'after' && !isLast ? scaleArgument(p, safety) : p);
    l = evaluatePolynomial(p, l);
    u = 2 - l;
  }
  return list;
}

const jordan: Polynomial = [3.4445, -4.775, 2.0315];

/**
 * Lists of coefficients in use. A list that ends is continued with its last entry.
 *
 * | preset | source |
 * | --- | --- |
 * | paper | Polar Express, Algorithm 1: `optimalComposition({ steps: 8 })`, the safety factor left to the caller |
 * | speedrun | modded-nanogpt and Dion: five steps, cushion 0.02, safety 1.02 inside |
 * | jordan | Jordan 2024: fast at first, ends in the band [0.68, 1.13] |
 * | you5, you6 | You 2025: five and six different steps |
 * | newton3, newton5 | Newton–Schulz of degree 3 and 5: converge always, slowly at first |
 */
export const polarPresets = {
  paper: optimalComposition({ steps: 8 }),
  speedrun: optimalComposition({ steps: 5, cushion: 0.02, safety: 1.02, safetyMode: 'inside' }),
  jordan: [jordan],
  you5: [
    [4.0848, -6.8946, 2.927],
    [3.9505, -6.3029, 2.6377],
    [3.7418, -5.5913, 2.3037],
    [2.8769, -3.1427, 1.2046],
    [2.8366, -3.0525, 1.2012],
  ],
  you6: [
    [3955 / 1024, -8306 / 1024, 5008 / 1024],
    [3735 / 1024, -6681 / 1024, 3463 / 1024],
    [3799 / 1024, -6499 / 1024, 3211 / 1024],
    [4019 / 1024, -6385 / 1024, 2906 / 1024],
    [2677 / 1024, -3029 / 1024, 1162 / 1024],
    [2172 / 1024, -1833 / 1024, 682 / 1024],
  ],
  newton3: [[1.5, -0.5, 0]],
  newton5: [[15 / 8, -10 / 8, 3 / 8]],
} as const satisfies Record<string, readonly Polynomial[]>;

/** Name of a list of coefficients. */
export type PolarPreset = keyof typeof polarPresets;
