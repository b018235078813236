import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  interpret,
  optimalComposition,
  type PolarPreset,
  polarExpress,
  polarPresets,
  program,
  Rng,
  tensor,
} from '../../src/index.js';
import { evaluatePolynomial, type Polynomial } from '../../src/optim/polar-coefficients.js';
import { gramParts, polarCost, polarSteps } from '../../src/optim/polar-plan.js';

/** Polar Express, Algorithm 1, as printed there, without its safety factor. */
const published: Polynomial[] = [
  [8.28721201814563, -23.595886519098837, 17.300387312530933],
  [4.107059111542203, -2.9478499167379106, 0.5448431082926601],
  [3.9486908534822946, -2.908902115962949, 0.5518191394370137],
  [3.3184196573706015, -2.488488024314874, 0.51004894012372],
  [2.300652019954817, -1.6689039845747493, 0.4188073119525673],
  [1.891301407787398, -1.2679958271945868, 0.37680408948524835],
];
/** The seventh in 60 digits (mpmath): the printed one is 9e-12 away from it, by its authors' rounding. */
const seventh: Polynomial = [1.875001480844219, -1.2500016453814815, 0.37500016453818624];

function expectNear(got: readonly Polynomial[], want: readonly Polynomial[], tolerance = 1e-12): void {
  want.forEach((row, i) => {
    row.forEach((value, j) => {
      expect(Math.abs(got[i]![j]! - value), `row ${i + 1}, ${got[i]![j]}`).toBeLessThanOrEqual(
        tolerance * Math.max(1, Math.abs(value)),
      );
    });
  });
}

/** For each bound: the first step after which every singular value in [1/kappa, 1] is that close to 1. */
function firstSteps(
  polynomial: (t: number) => Polynomial,
  kappa: number,
  bounds: readonly number[],
): (number | '-')[] {
  let sigma = Array.from({ length: 4001 }, (_, i) => kappa ** (i / 4000 - 1));
  const found: (number | '-')[] = bounds.map(() => '-');
  for (let t = 0; t < 40; t++) {
    sigma = sigma.map((s) => evaluatePolynomial(polynomial(t), s));
    const error = Math.max(...sigma.map((s) => Math.abs(s - 1)));
    bounds.forEach((bound, i) => {
      if (found[i] === '-' && error < bound) found[i] = t + 1;
    });
  }
  return found;
}

const listed = (list: readonly Polynomial[]) => (t: number) => list[Math.min(t, list.length - 1)]!;
const bounds = [0.5, 0.1, 1e-2, 1e-6];

describe('optimalComposition', () => {
  it('is the published list', () => {
    expectNear(optimalComposition({ steps: 8 }), [...published, seventh, [1.875, -1.25, 0.375]]);
  });

  it('with the safety factor inside is the list of the speedrun', () => {
    expectNear(polarPresets.speedrun, [
      [8.156554524902461, -22.48329292557795, 15.878769915207462],
      [4.042929935166739, -2.808917465908714, 0.5000178451051316],
      [3.8916678022926607, -2.772484153217685, 0.5060648178503393],
      [3.285753657755655, -2.3681294933425376, 0.46449024233003106],
      [2.3465413258596377, -1.7097828382687081, 0.42323551169305323],
    ]);
    expectNear(optimalComposition({ steps: 10, cushion: 0.02, safety: 1.01, safetyMode: 'inside' }), [
      [8.237312490495555, -23.15774741455818, 16.6805684114459],
    ]);
  });

  it('without cushion is the list of CANS', () => {
    expectNear(optimalComposition({ steps: 5, cushion: 0 }), [
      [8.470328803848, -25.108074706662, 18.629275599118],
      [4.182834183294, -3.108701109889, 0.58060668135],
      [3.961857278962, -2.954063746359, 0.562976117954],
      [3.286586217028, -2.464720134531, 0.507357693861],
      [2.273749994434, -1.644660367908, 0.416190927498],
    ]);
  });

  it('levels the error of a cubic', () => {
    const [p] = optimalComposition({ steps: 1, degree: 3, cushion: 0 });
    const error = (s: number) => 1 - evaluatePolynomial(p!, s);
    const peak = Math.sqrt(p![0] / (-3 * p![1]));
    expect(error(1e-3)).toBeCloseTo(0.9948199, 7);
    expect(error(peak)).toBeCloseTo(-0.9948199, 7);
    expect(error(1)).toBeCloseTo(0.9948199, 7);
  });

  it('is the best odd polynomial: no neighbour does better', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.01, max: 0.9, noNaN: true }),
        fc.integer({ min: 0, max: 2 }),
        (lower, k) => {
          const [best] = optimalComposition({ lower, steps: 1, cushion: 0 });
          const worst = (p: Polynomial) => {
            let max = 0;
            for (let i = 0; i <= 2000; i++)
              max = Math.max(max, Math.abs(1 - evaluatePolynomial(p, lower + ((1 - lower) * i) / 2000)));
            return max;
          };
          for (const by of [1 - 1e-3, 1 + 1e-3]) {
            const other = best!.map((v, i) => (i === k ? v * by : v)) as unknown as Polynomial;
            expect(worst(other)).toBeGreaterThan(worst(best!));
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  it.each([
    [{ steps: 0 }, 'steps'],
    [{ steps: 1, lower: 0 }, 'lower'],
    [{ steps: 1, cushion: 1 }, 'cushion'],
    [{ steps: 1, safety: 0.5 }, 'safety'],
  ])('refuses %j', (options, name) => {
    expect(() => optimalComposition(options)).toThrow(name);
  });
});

describe('convergence', () => {
  // Singular values spread evenly in the logarithm over [1/kappa, 1]; the first step below 0.5, 0.1, 1e-2, 1e-6.
  const table: [
    kappa: number,
    newton3: unknown,
    newton5: unknown,
    jordan: unknown,
    paper: unknown,
    matched: unknown,
    cubic: unknown,
  ][] = [
    [1e1, [5, 7, 8, 10], [3, 5, 5, 6], [2, '-', '-', '-'], [5, 6, 6, 8], [1, 2, 3, 4], [2, 3, 4, 6]],
    [1e2, [10, 13, 14, 15], [7, 8, 9, 10], [4, '-', '-', '-'], [5, 6, 6, 8], [3, 4, 5, 6], [4, 6, 7, 8]],
    [1e3, [16, 18, 19, 21], [11, 12, 13, 14], [6, '-', '-', '-'], [5, 6, 6, 8], [5, 6, 6, 7], [7, 8, 9, 11]],
    [
      1e4,
      [22, 24, 25, 27],
      [14, 16, 16, 17],
      [7, '-', '-', '-'],
      [8, 10, 10, 11],
      [6, 7, 8, 9],
      [9, 11, 12, 13],
    ],
    [
      1e5,
      [27, 30, 31, 32],
      [18, 19, 20, 21],
      [9, '-', '-', '-'],
      [12, 13, 14, 15],
      [8, 9, 9, 10],
      [12, 13, 14, 15],
    ],
    [
      1e6,
      [33, 35, 36, 38],
      [21, 23, 24, 25],
      [11, '-', '-', '-'],
      [16, 17, 18, 19],
      [9, 10, 11, 12],
      [14, 15, 16, 18],
    ],
  ];
  it.each(table)('for condition number %d', (kappa, newton3, newton5, jordan, paper, matched, cubic) => {
    const ours = (degree: 3 | 5) =>
      listed(optimalComposition({ lower: 1 / kappa, steps: 30, degree, cushion: 0 }));
    const safe = polarSteps({ steps: 40, safety: 1.01 });
    expect({
      newton3: firstSteps(listed(polarPresets.newton3), kappa, bounds),
      newton5: firstSteps(listed(polarPresets.newton5), kappa, bounds),
      jordan: firstSteps(listed(polarPresets.jordan), kappa, bounds),
      paper: firstSteps(listed(safe), kappa, bounds),
      matched: firstSteps(ours(5), kappa, bounds),
      cubic: firstSteps(ours(3), kappa, bounds),
    }).toEqual({ newton3, newton5, jordan, paper, matched, cubic });
  });

  it('of five steps of the list, after the spread that it is made for', () => {
    const end = (s: number) => polarSteps({}).reduce((x, p) => evaluatePolynomial(p, x), s);
    const errors = Array.from({ length: 1000 }, (_, i) => Math.abs(1 - end(1e3 ** (i / 999 - 1))));
    expect(Math.max(...errors)).toBeCloseTo(0.123559055, 6);
  });
});

/** A random orthogonal matrix by Gram–Schmidt, rows. */
function orthogonal(n: number, rng: Rng): number[][] {
  const rows: number[][] = [];
  while (rows.length < n) {
    let v = Array.from(rng.normal(n));
    for (let pass = 0; pass < 2; pass++)
      for (const r of rows) {
        const dot = r.reduce((sum, x, i) => sum + x * v[i]!, 0);
        v = v.map((x, i) => x - dot * r[i]!);
      }
    const norm = Math.hypot(...v);
    rows.push(v.map((x) => x / norm));
  }
  return rows;
}

/** Σ σ_k u_k v_kᵀ as [m, n]. */
function compose(u: number[][], s: readonly number[], v: number[][]): Float64Array {
  const [m, n] = [u[0]!.length, v[0]!.length];
  const out = new Float64Array(m * n);
  s.forEach((sigma, k) => {
    for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) out[i * n + j]! += sigma * u[k]![i]! * v[k]![j]!;
  });
  return out;
}

const worst = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((max, x, i) => Math.max(max, Math.abs(x - b[i]!)), 0);

describe('polarExpress', () => {
  const rng = new Rng(3);
  const sigma = [1, 0.6, 0.3, 0.1, 0.02];
  const norm = Math.hypot(...sigma);

  it.each([
    [5, 5, 'direct'],
    [5, 9, 'direct'],
    [9, 5, 'direct'],
    [5, 30, 'gram'],
    [30, 5, 'gram'],
    [5, 9, 'gram'],
  ] as const)('applies the polynomials to the singular values of a %d x %d matrix, %s form', (m, n, form) => {
    const [u, v] = [orthogonal(m, rng), orthogonal(n, rng)];
    const steps = 8;
    const want = sigma.map((s) =>
      polarSteps({ steps, safety: 1.01 }).reduce(
        (x, p) => evaluatePolynomial(p, x),
        s / (norm * 1.01 + 1e-7),
      ),
    );
    const x = tensor(compose(u, sigma, v), [m, n], 'float64');
    const [y] = interpret([polarExpress(x, { steps, safety: 1.01, form })]);
    // Rounding of float64, 1.1e-16, times what eight steps amplify of it: 6e-15 as measured.
    expect(worst(y!.data, compose(u, want, v))).toBeLessThan(1e-13);
    expect(Math.max(...want.map((s) => Math.abs(s - 1)))).toBeLessThan(1e-2);
  });

  it('works on batches in float32, each form as near to float64 as the polynomials allow', async () => {
    const [draws, m, n] = [24, 16, 48];
    const x = Float32Array.from(new Rng(5).normal(draws * m * n));
    const run = program({ x: [draws, m, n] }, ({ x }) => ({
      direct: polarExpress(x, { form: 'direct' }),
      gram: polarExpress(x, { form: 'gram' }),
    }));
    const { direct, gram } = await run({ x });
    const [exact] = interpret([polarExpress(tensor(Float64Array.from(x), [draws, m, n], 'float64'))]);
    for (const { data } of [direct, gram]) {
      const errors = Array.from({ length: draws }, (_, d) =>
        worst(data.subarray(d * m * n, (d + 1) * m * n), exact!.data.subarray(d * m * n, (d + 1) * m * n)),
      ).sort((a, b) => a - b);
      // The first polynomial's least value is 0.0083, where terms of 8, 24 and 17 times σ cancel: of a matrix with a singular
      // value right there, rounding becomes (8 + 24 + 17)/0.0083 · 2⁻²⁴ = 3.5e-4. Most matrices have none.
      expect(errors[draws / 2]).toBeLessThan(1e-5);
      expect(errors.at(-1)).toBeLessThan(3.5e-4);
    }
    // Rows are orthonormal up to the error of five steps.
    const row = (k: number) => direct.data.subarray(k * n, k * n + n) as Float32Array;
    const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
    for (let i = 0; i < m; i++)
      for (let j = 0; j < m; j++) {
        expect(Math.abs(dot(row(i), row(j)) - (i === j ? 1 : 0))).toBeLessThan(0.26);
      }
  });

  it('keeps zero at zero', async () => {
    const run = program({ x: [4, 6] }, ({ x }) => ({ y: polarExpress(x) }));
    const { y } = await run({ x: new Float32Array(24) });
    expect(Array.from(y.data)).toEqual(new Array(24).fill(0));
  });

  it('begins the Gram form anew before rounding shows', () => {
    const lengths = (steps: number, coefficients: PolarPreset) =>
      gramParts(polarSteps({ steps, coefficients })).map((part) => part.length);
    // A gain of 8.29·4.11·3.95·3.32 = 446 before the fifth step: 446²·2⁻²⁴ = 0.0119, less than an eighth of 0.1236.
    expect(lengths(5, 'paper')).toEqual([5]);
    // What is left after six steps is 1.2e-3; gains of 34 and 134 before the third and fourth: 6.9e-5, 1.1e-3.
    expect(lengths(6, 'paper')).toEqual([3, 3]);
    expect(lengths(12, 'paper')).toEqual([3, 5, 4]);
    expect(lengths(5, 'jordan')).toEqual([5]);
    expect(lengths(5, 'you5')).toEqual([5]);
  });

  it.each([
    [5, 1e-3, 0.02],
    [12, 1e-3, 1e-4],
    [14, 1e-4, 3e-4],
  ])(
    'keeps small singular values in the Gram form: %d steps, 1 to %d',
    async (steps, smallest, tolerance) => {
      const [m, n] = [24, 80];
      const values = Array.from({ length: m }, (_, i) => smallest ** (i / (m - 1)));
      const [u, v] = [orthogonal(m, rng), orthogonal(n, rng)];
      const run = program({ x: [m, n] }, ({ x }) => ({ y: polarExpress(x, { steps, form: 'gram' }) }));
      const { y } = await run({ x: Float32Array.from(compose(u, values, v)) });
      const length = Math.hypot(...values);
      const want = values.map((s) =>
        polarSteps({ steps }).reduce((x, p) => evaluatePolynomial(p, x), s / length),
      );
      // uᵀYv has the values on its diagonal and nothing beside them.
      let error = 0;
      for (let k = 0; k < m; k++) {
        const row = Array.from({ length: n }, (_, j) =>
          u[k]!.reduce((sum, w, i) => sum + w * y.data[i * n + j]!, 0),
        );
        for (let l = 0; l < m; l++) {
          const entry = row.reduce((sum, w, j) => sum + w * v[l]![j]!, 0);
          error = Math.max(error, Math.abs(entry - (k === l ? want[k]! : 0)));
        }
      }
      expect(error).toBeLessThan(tolerance);
    },
  );

  it('stays bounded for a matrix of low rank, however many steps', async () => {
    const x = new Float32Array(8 * 40).map((_, i) => Math.sin(Math.floor(i / 40)) * Math.cos(i % 40));
    const run = program({ x: [8, 40] }, ({ x }) => ({ y: polarExpress(x, { steps: 30, form: 'gram' }) }));
    const { y } = await run({ x });
    // Of rank 1: the factor is the outer product of two unit vectors, and rounding fills the other directions at will.
    const energy = (y.data as Float32Array).reduce((sum, value) => sum + value * value, 0);
    expect(energy).toBeGreaterThan(1 - 1e-4);
    expect(energy).toBeLessThan(8.1);
  });

  it('takes the form that costs less', () => {
    const cost = (m: number, n: number, steps = 5) => polarCost(m, n, polarSteps({ steps }));
    expect(cost(64, 64).direct).toBeLessThan(cost(64, 64).gram);
    expect(cost(64, 512).gram).toBeLessThan(cost(64, 512).direct);
    // Small side first: 2·64²·256 + 64³ a step, not 2·256²·64 + 256³.
    expect(cost(64, 256, 1).direct).toBe(2_359_296);
    // One Gram matrix, one product with X, and 1 + 4·4 products on the small side.
    expect(cost(64, 256).gram).toBe(2 * 64 * 64 * 256 + 17 * 64 ** 3);
  });

  it('refuses vectors and unknown presets', () => {
    expect(() => polarExpress(tensor([1, 2]))).toThrow('matrix');
    expect(() => polarExpress(tensor([[1]]), { coefficients: 'fast' as never })).toThrow('presets are paper');
    expect(() => polarExpress(tensor([[1]]), { coefficients: [[0, 1, 0]] })).toThrow('must be positive');
  });
});
