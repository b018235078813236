import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  adamW,
  groups,
  type MuonOptions,
  muon,
  type ParameterRole,
  program,
  Rng,
  sum,
  tensor,
  type Variable,
  variable,
} from '../../src/index.js';

interface Golden {
  shapes: [number, number][];
  initial: number[][];
  gradients: number[][][];
  original: number[][][];
  matchAdamW: number[][][];
}
const golden = JSON.parse(readFileSync(new URL('../golden/muon.json', import.meta.url), 'utf8')) as Golden;

const worst = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((max, x, i) => Math.max(max, Math.abs(x - b[i]!)), 0);

/** Runs given gradients through an optimiser; weights after each step. */
async function replay(options: MuonOptions): Promise<Float32Array[][]> {
  const ws = golden.shapes.map((shape, i) =>
    variable(tensor(Float32Array.from(golden.initial[i]!), shape), { name: `w${i}`, role: 'matrix' }),
  );
  const optimizer = muon(options);
  const step = program({ g0: golden.shapes[0]!, g1: golden.shapes[1]!, g2: golden.shapes[2]! }, (g) => {
    const loss = [g.g0, g.g1, g.g2].map((t, i) => sum(t.mul(ws[i]!))).reduce((a, b) => a.add(b));
    optimizer.minimize(loss, ws);
    return { loss };
  });
  const history: Float32Array[][] = [];
  for (const [g0, g1, g2] of golden.gradients) {
    const feed = (g: number[] | undefined) => Float32Array.from(g!);
    await step({ g0: feed(g0), g1: feed(g1), g2: feed(g2) });
    history.push(ws.map((w) => w.read() as Float32Array));
  }
  return history;
}

const jordan = { coefficients: 'jordan' } as const;

describe('muon', () => {
  it.each([
    ['original', { lr: 0.02, weightDecay: 0.1, polar: jordan }, golden.original],
    [
      'matchAdamW',
      { lr: 0.01, weightDecay: 0.1, momentum: 0.9, nesterov: false, scale: 'match-adamw', polar: jordan },
      golden.matchAdamW,
    ],
  ] as [string, MuonOptions, number[][][]][])(
    'takes the steps of torch.optim.Muon, %s',
    async (_name, options, want) => {
      const got = await replay(options);
      want.forEach((step, t) => {
        step.forEach((w, i) => {
          expect(worst(got[t]![i]!, w), `step ${t}, parameter ${i}`).toBeLessThan(3e-6);
        });
      });
    },
  );

  it('goes the same way in both conventions', async () => {
    const [ema, sums] = [await replay({ lr: 0.02 }), await replay({ lr: 0.02, convention: 'sum' })];
    expect(worst(ema.at(-1)![0]!, sums.at(-1)![0]!)).toBeLessThan(3e-6);
  });

  /** One step on one parameter with the gradient `g`. */
  async function once(w: Variable, g: Float32Array, options: MuonOptions): Promise<Float32Array> {
    const before = w.read();
    const step = program({ g: w.shape }, ({ g }) => {
      muon(options).minimize(sum(g.mul(w)), [w]);
      return {};
    });
    await step({ g });
    return (w.read() as Float32Array).map((x, i) => x - before[i]!);
  }
  const matrix = (shape: number[], role: ParameterRole = 'matrix') =>
    variable(tensor(new Rng(1).normal(shape.reduce((a, b) => a * b)), shape), { name: 'w', role });

  it('orthogonalises blocks of output features on their own', async () => {
    const g = new Rng(2).normal(6 * 8);
    const fused = await once(matrix([6, 8]), g, { lr: 1, scale: 'match-adamw', blocks: () => 2 });
    for (const half of [0, 1]) {
      const columns = (data: ArrayLike<number>) =>
        Float32Array.from({ length: 24 }, (_, i) => data[Math.floor(i / 4) * 8 + half * 4 + (i % 4)]!);
      const alone = await once(matrix([6, 4]), columns(g), { lr: 1, scale: 'match-adamw' });
      expect(worst(columns(fused), alone)).toBeLessThan(1e-5);
    }
  });

  it('flattens filters to [out, in·height·width]', async () => {
    const g = new Rng(2).normal(4 * 3 * 2 * 2);
    const filter = await once(matrix([4, 3, 2, 2], 'filter'), g, { lr: 1 });
    // Stored [in, out], the same map is the transpose; √max(1, out/in) = 1 both ways here.
    const transposed = Float32Array.from({ length: 48 }, (_, i) => g[(i % 4) * 12 + Math.floor(i / 4)]!);
    const flat = await once(matrix([12, 4]), transposed, { lr: 1 });
    expect(
      worst(
        filter,
        Float32Array.from({ length: 48 }, (_, i) => flat[(i % 12) * 4 + Math.floor(i / 12)]!),
      ),
    ).toBeLessThan(1e-5);
  });

  it('scales by the rule', async () => {
    const g = new Rng(2).normal(4 * 16);
    const rms = async (scale: MuonOptions['scale']) => {
      const step = await once(matrix([4, 16]), g, { lr: 1, scale: scale!, polar: { steps: 12 } });
      return Math.sqrt(step.reduce((total, x) => total + x * x, 0) / step.length);
    };
    // The factor's root mean square is 1/√max(in, out) = 1/4.
    expect(await rms('original')).toBeCloseTo(2 / 4, 5);
    expect(await rms('spectral')).toBeCloseTo(2 / 4, 5);
    expect(await rms('match-adamw')).toBeCloseTo(0.2, 5);
  });

  it('levels the rows of output features with neuronNorm, at the same norm', async () => {
    const g = new Rng(2).normal(16 * 4).map((x, i) => x * (1 + (i % 4)));
    const options: MuonOptions = { lr: 1, polar: { steps: 2, coefficients: 'newton3' } };
    const plain = await once(matrix([16, 4]), g, options);
    const levelled = await once(matrix([16, 4]), g, { ...options, neuronNorm: { beta2: 0.9 } });
    const energies = (t: Float32Array) =>
      [0, 1, 2, 3].map((c) => t.filter((_, i) => i % 4 === c).reduce((total, x) => total + x * x, 0));
    const total = (t: Float32Array) => energies(t).reduce((a, b) => a + b);
    expect(total(levelled)).toBeCloseTo(total(plain), 4);
    expect(Math.max(...energies(levelled)) / Math.min(...energies(levelled))).toBeCloseTo(1, 4);
    expect(Math.max(...energies(plain)) / Math.min(...energies(plain))).toBeGreaterThan(1.5);
  });

  it('decays with caution only where the update shrinks the weight', async () => {
    const g = new Rng(2).normal(6 * 8);
    const before = matrix([6, 8]).read();
    const free = await once(matrix([6, 8]), g, { lr: 0.1 });
    const decayed = await once(matrix([6, 8]), g, { lr: 0.1, weightDecay: 0.5, cautious: true });
    decayed.forEach((change, i) => {
      const decay = free[i]! * before[i]! < 0 ? -0.05 * before[i]! : 0;
      expect(change - free[i]!).toBeCloseTo(decay, 5);
    });
  });

  it.each([
    [undefined, [3, 4], 'has no role'],
    ['embedding', [3, 4], 'role "embedding"'],
    ['vector', [3, 4], 'role "vector"'],
    ['matrix', [12], 'cannot have the role'],
  ] as [ParameterRole | undefined, number[], string][])(
    'refuses a parameter with role %s',
    async (role, shape, message) => {
      const w = variable(tensor(new Float32Array(12), shape), { name: 'table', ...(role && { role }) });
      const step = program({ g: shape }, ({ g }) => {
        muon({ lr: 1 }).minimize(sum(g.mul(w)), [w]);
        return {};
      });
      await expect(step({ g: new Float32Array(12) })).rejects.toThrow(message);
    },
  );

  it('works beside AdamW by role', async () => {
    const w = matrix([3, 4]);
    const b = variable(tensor(new Float32Array(4)), { name: 'b', role: 'vector' });
    const optimizer = groups([
      { name: 'matrices', match: (p) => p.role === 'matrix', optimizer: muon({ lr: 0.1 }) },
      { name: 'rest', optimizer: adamW({ lr: 0.01 }) },
    ]);
    const step = program({ x: [5, 3] }, ({ x }) => {
      optimizer.minimize(sum(x.matmul(w).add(b).square()), [w, b]);
      return {};
    });
    await step({ x: new Rng(4).normal(15) });
    expect([...optimizer.state().keys()].sort()).toEqual([
      'b.adamw.m',
      'b.adamw.v',
      'matrices.muon.step',
      'rest.adamw.step',
      'w.muon.momentum',
    ]);
    expect(Math.max(...Array.from(b.read(), Math.abs))).toBeCloseTo(0.01, 5);
  });
});
