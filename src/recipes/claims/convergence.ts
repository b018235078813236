/**
 * How fast polynomial iterations bring singular values to 1, in exact arithmetic: an iteration on a matrix acts on each
 * of its singular values alone, so no matrix is needed.
 */
import { optimalComposition, polarPresets } from '../../index.js';
import { evaluatePolynomial, type Polynomial } from '../../optim/polar-coefficients.js';
import { polarSteps } from '../../optim/polar-plan.js';

/** An iteration: its polynomials, and matrix products that each costs. */
export interface Method {
  name: string;
  /** Fits a legend. */
  short: string;
  /** Step 0 is the first; undefined behind the end of a list that is not continued. */
  polynomial(step: number): Polynomial | undefined;
  /** XXᵀ and a product with it, and the square of XXᵀ for degree 5. */
  products: 2 | 3;
}

/** Steps that a list is looked at for. */
export const longest = 40;

const continued = (list: readonly Polynomial[]) => (step: number) => list[Math.min(step, list.length - 1)];

/** Published iterations, and the Polar Express: as published, and made for singular values from `lower` on. */
export function methodsFor(lower: number): Method[] {
  const matched = (degree: 3 | 5) =>
    continued(optimalComposition({ lower, steps: longest, degree, cushion: 0 }));
  return [
    {
      name: 'Newton–Schulz, cubic',
      short: 'cubic',
      polynomial: continued(polarPresets.newton3),
      products: 2,
    },
    {
      name: 'Newton–Schulz, quintic',
      short: 'quintic',
      polynomial: continued(polarPresets.newton5),
      products: 3,
    },
    { name: 'Jordan', short: 'Jordan', polynomial: continued(polarPresets.jordan), products: 3 },
    { name: 'You (six steps)', short: 'You', polynomial: (step) => polarPresets.you6[step], products: 3 },
    {
      name: 'Polar Express, Algorithm 1',
      short: 'Algorithm 1',
      polynomial: continued(polarSteps({ steps: longest, safety: 1.01 })),
      products: 3,
    },
    { name: 'Polar Express for 1/κ', short: 'for 1/κ', polynomial: matched(5), products: 3 },
    { name: 'Polar Express for 1/κ, cubic', short: 'for 1/κ, cubic', polynomial: matched(3), products: 2 },
  ];
}

/** Singular values spread evenly in the logarithm over [1/kappa, 1]. */
export const spread = (kappa: number, count = 4001): number[] =>
  Array.from({ length: count }, (_, i) => kappa ** (i / (count - 1) - 1));

/** Errors after each step: the largest and the root mean square of |σ - 1|. */
export interface StepError {
  products: number;
  largest: number;
  rms: number;
}

/** The error before the first step, then after each of up to `steps`. */
export function errorsOf(method: Method, sigma: readonly number[], steps = longest): StepError[] {
  let values = [...sigma];
  const measure = (step: number): StepError => ({
    products: step * method.products,
    largest: values.reduce((max, s) => Math.max(max, Math.abs(s - 1)), 0),
    rms: Math.sqrt(values.reduce((sum, s) => sum + (s - 1) ** 2, 0) / values.length),
  });
  const errors = [measure(0)];
  for (let step = 0; step < steps; step++) {
    const polynomial = method.polynomial(step);
    if (!polynomial) break;
    values = values.map((s) => evaluatePolynomial(polynomial, s));
    errors.push(measure(step + 1));
  }
  return errors;
}

/** For each bound the first step whose largest error is below it; undefined: none of the first 40. */
export function firstSteps(
  method: Method,
  sigma: readonly number[],
  bounds: readonly number[],
): (number | undefined)[] {
  const errors = errorsOf(method, sigma);
  return bounds.map((bound) => {
    const found = errors.findIndex(({ largest }) => largest < bound);
    return found < 0 ? undefined : found;
  });
}

/** The error after as many whole steps as `products` matrix products allow; undefined where a list has ended. */
export function errorAfter(
  method: Method,
  sigma: readonly number[],
  products: number,
): StepError | undefined {
  const steps = Math.floor(products / method.products);
  return errorsOf(method, sigma, steps)[steps];
}
