import { type ChartLine, lineChart } from '../../train/index.js';
import { errorAfter, errorsOf, firstSteps, type Method, methodsFor, spread } from './convergence.js';

/** A matrix by its singular values over its Frobenius norm, largest first. */
export interface Matrix {
  name: string;
  shape: readonly [number, number];
  sigma: readonly number[];
  /** Largest distance of float32's singular values from exact arithmetic's after five steps. */
  distance: number;
}

/** Condition numbers of the tables. */
export const kappas = [1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7] as const;
const bounds = [0.5, 0.1, 1e-2, 1e-6];
/** Numbers of matrix products that both degrees reach by whole steps. */
const products = [6, 12, 18, 24, 30, 36];

const power = (kappa: number) => `10${'⁰¹²³⁴⁵⁶⁷'[Math.round(Math.log10(kappa))]}`;
const errorText = (error: number | undefined) =>
  error === undefined ? '–' : error < 1e-12 ? '0' : error < 1e-3 ? error.toExponential(0) : error.toFixed(3);
const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');

/** First steps below each bound, by condition number (rows) and method; null: none of 40. */
export function stepCounts(kappa: number): (number | undefined)[][] {
  return methodsFor(1 / kappa).map((method) => firstSteps(method, spread(kappa), bounds));
}

function stepTable(): string {
  const rows = kappas.map((kappa) => [
    power(kappa),
    ...stepCounts(kappa).map((found) => found.map((step) => step ?? '–').join(' / ')),
  ]);
  return table(['κ', ...methodsFor(0.1).map(({ name }) => name)], rows);
}

function productTable(): string {
  const rows = kappas.flatMap((kappa) =>
    methodsFor(1 / kappa).map((method, i) => [
      i === 0 ? power(kappa) : '',
      method.name,
      ...products.map((count) => errorText(errorAfter(method, spread(kappa), count)?.largest)),
    ]),
  );
  return table(['κ', 'method', ...products.map(String)], rows);
}

/** Methods that a matrix is shown with: those of degree 5, and the cubic of Newton–Schulz. */
const shownFor = (sigma: readonly number[]): Method[] =>
  methodsFor(Math.max(sigma.at(-1)!, 1e-12)).slice(0, 6);

function matrixTable(matrices: readonly Matrix[]): string {
  const rows = matrices.map(({ name, shape, sigma }) => [
    name,
    shape.join(' × '),
    (sigma[0]! / sigma.at(-1)!).toExponential(1),
    sigma[0]!.toFixed(2),
    ...shownFor(sigma).map((method) => {
      const error = errorAfter(method, sigma, 15);
      return error ? `${errorText(error.largest)} / ${errorText(error.rms)}` : '–';
    }),
  ]);
  return table(['matrix', 'shape', 'κ', 'σ₁', ...shownFor([1, 0.1]).map(({ name }) => name)], rows);
}

/** All tables in Markdown. */
export function polarTables(matrices: readonly Matrix[]): string {
  const distance = Math.max(...matrices.map((one) => one.distance));
  return [
    '### Steps until every singular value is within 0.5 / 0.1 / 0.01 / 1e-6 of 1',
    '',
    'Singular values spread evenly in the logarithm over [1/κ, 1]; –: not within 40 steps.',
    '',
    stepTable(),
    '',
    '### Largest error after so many matrix products',
    '',
    'A cubic step costs two products, a quintic one three.',
    '',
    productTable(),
    '',
    '### Gradients and momenta of a training, divided by their Frobenius norm: largest / root mean square error after 15 products',
    '',
    matrixTable(matrices),
    '',
    `Five steps of the default list in float32 are at most ${distance.toExponential(1)} from exact arithmetic.`,
  ].join('\n');
}

/** Errors by matrix products, on logarithmic paper: the largest for a condition number, the root mean square for a matrix. */
export function errorChart(title: string, of: number | Matrix): string {
  const isMatrix = typeof of !== 'number';
  const sigma = isMatrix ? of.sigma : spread(of);
  const methods = isMatrix ? shownFor(sigma) : methodsFor(1 / of).slice(0, 6);
  const lines = methods.map((method): ChartLine => {
    const all = errorsOf(method, sigma).filter(({ products }) => products <= 60);
    return {
      name: method.short,
      steps: all.map(({ products }) => products),
      values: all.map((error) => Math.log10(Math.max(isMatrix ? error.rms : error.largest, 1e-8))),
      hasDots: true,
    };
  });
  const what = isMatrix ? 'root mean square error' : 'largest error';
  return lineChart({ title, xLabel: 'matrix products', yLabel: `log₁₀ of the ${what}`, lines });
}
