import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Rng } from '../../src/index.js';
import { errorAfter, methodsFor, spread } from '../../src/recipes/claims/convergence.js';
import { muonClaim } from '../../src/recipes/claims/muon.js';
import { bestRate, type MuonCell, nextRate } from '../../src/recipes/claims/muon-sweep.js';
import { muonTables } from '../../src/recipes/claims/muon-tables.js';
import { pairedDifference } from '../../src/recipes/claims/paired.js';
import { polarClaim } from '../../src/recipes/claims/polar.js';
import { stepCounts } from '../../src/recipes/claims/polar-tables.js';
import { singularValues } from '../../src/recipes/claims/singular-values.js';
import { launch } from '../../src/recipes/launch.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-claims-optimisers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const small = [
  'layers=1',
  'dim=16',
  'heads=2',
  'context=16',
  'batch=2',
  'vocabulary=257',
  'validationBatches=4',
];

describe('convergence', () => {
  // Computed once by another program in NumPy: columns are the methods in order, entries the first steps with an
  // error below 0.5, 0.1, 0.01 and 1e-6 (–: none of 40).
  it.each([
    [1e1, '5/7/8/10 3/5/5/6 2/–/–/– 4/6/6/– 5/6/6/8 1/2/3/4 2/3/4/6'],
    [1e2, '10/13/14/15 7/8/9/10 4/–/–/– 4/6/6/– 5/6/6/8 3/4/5/6 4/6/7/8'],
    [1e3, '16/18/19/21 11/12/13/14 6/–/–/– 5/–/–/– 5/6/6/8 5/6/6/7 7/8/9/11'],
    [1e4, '22/24/25/27 14/16/16/17 7/–/–/– –/–/–/– 8/10/10/11 6/7/8/9 9/11/12/13'],
    [1e5, '27/30/31/32 18/19/20/21 9/–/–/– –/–/–/– 12/13/14/15 8/9/9/10 12/13/14/15'],
    [1e6, '33/35/36/38 21/23/24/25 11/–/–/– –/–/–/– 16/17/18/19 9/10/11/12 14/15/16/18'],
    [1e7, '39/–/–/– 25/27/27/28 13/–/–/– –/–/–/– 19/21/21/22 11/12/12/13 16/18/19/20'],
  ])('for condition number %d', (kappa, want) => {
    const got = stepCounts(kappa).map((found) => found.map((step) => step ?? '–').join('/'));
    expect(got.join(' ')).toBe(want);
  });

  it('counts products, not steps: two for a cubic step, three for a quintic one', () => {
    const [cubic, quintic, , you, paper] = methodsFor(1e-3);
    const sigma = spread(1e3, 101);
    expect(errorAfter(cubic!, sigma, 12)!.largest).toBeCloseTo(1 - 1.5 ** 6 * 1e-3, 3);
    expect(errorAfter(quintic!, sigma, 12)!.largest).toBeCloseTo(1 - 1.875 ** 4 * 1e-3, 3);
    expect(errorAfter(quintic!, sigma, 14)).toEqual(errorAfter(quintic!, sigma, 12));
    expect(errorAfter(you!, sigma, 21)).toBe(undefined);
    // Five steps at safety 1.01: 0.1236 without it.
    expect(errorAfter(paper!, sigma, 15)!.largest).toBeCloseTo(0.154, 3);
  });
});

describe('singularValues', () => {
  it('finds those of a product of a rotation, a diagonal and a rotation', () => {
    // Columns of a Hadamard matrix are orthogonal: H diag(s) has the values 2 s.
    const h = [1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1];
    const s = [3, 1e-6, 0, 2];
    const data = h.map((x, i) => x * s[i % 4]!);
    for (const [matrix, rows, columns] of [
      [data, 4, 4],
      [[...data, ...new Array(8).fill(0)], 6, 4],
    ] as const) {
      const [a, b, c, d] = singularValues(matrix, rows, columns);
      expect([a, b]).toEqual([expect.closeTo(6, 12), expect.closeTo(4, 12)]);
      expect(c! / 2e-6).toBeCloseTo(1, 9);
      expect(d!).toBeLessThan(1e-15);
    }
  });

  it('keeps the sum of squares, and does not mind a transpose', () => {
    const data = new Rng(1).normal(6 * 11);
    const turned = Float32Array.from(data, (_, i) => data[(i % 6) * 11 + Math.floor(i / 6)]!);
    const values = singularValues(data, 6, 11);
    expect(values.reduce((sum, s) => sum + s * s, 0)).toBeCloseTo(
      data.reduce((sum, x) => sum + x * x, 0),
      5,
    );
    singularValues(turned, 11, 6).forEach((s, i) => {
      expect(s).toBeCloseTo(values[i]!, 12);
    });
  });
});

describe('pairedDifference', () => {
  it('is the mean with Student’s interval', () => {
    // Differences 1, 2, 3: standard deviation 1, half width 4.3027/√3.
    const { mean, low, high, pairs } = pairedDifference([2, 4, 6], [1, 2, 3]);
    expect([mean, pairs]).toEqual([2, 3]);
    expect(high - mean).toBeCloseTo(4.3027 / Math.sqrt(3), 12);
    expect(mean - low).toBeCloseTo(4.3027 / Math.sqrt(3), 12);
  });

  it('refuses lists that are no pairs', () => {
    expect(() => pairedDifference([1], [1])).toThrow('two or more');
    expect(() => pairedDifference([1, 2], [1])).toThrow('2 values against 1');
  });
});

describe('the sweep', () => {
  const cell = (rate: number, loss: number | null, arm = 'AdamW'): MuonCell => ({
    phase: 'sweep',
    arm,
    rate,
    seed: 0,
    loss,
    seconds: 1,
  });

  it('takes the list, then goes on beyond an end that is the best', () => {
    const list = [1, 2];
    expect(nextRate([], 'AdamW', list, 2)).toBe(1);
    expect(nextRate([cell(1, 5)], 'AdamW', list, 2)).toBe(2);
    expect(nextRate([cell(1, 5), cell(2, 4)], 'AdamW', list, 2)).toBe(4);
    expect(nextRate([cell(1, 4), cell(2, 5)], 'AdamW', list, 2)).toBe(0.5);
    expect(nextRate([cell(1, 4), cell(2, 5)], 'AdamW', list, 0)).toBe(undefined);
    expect(nextRate([cell(1, 5), cell(2, 4), cell(4, null)], 'AdamW', list, 2)).toBe(undefined);
    expect(nextRate([cell(1, 5), cell(2, 4), cell(4, 3), cell(8, 2)], 'AdamW', list, 2)).toBe(undefined);
  });

  it('counts a training that diverged as the worst', () => {
    expect(bestRate([cell(1, 9), cell(2, null), cell(3, 1, 'Muon, You')], 'AdamW')).toBe(1);
  });

  it('becomes tables with paired differences', () => {
    const cells = [cell(0.5, 3), cell(1, null)];
    for (const [arm, losses] of [
      ['Muon, Polar Express', [1, 2]],
      ['Muon, Jordan', [1.5, 2.5]],
      ['Muon, You', [2, 3]],
      ['AdamW', [3, 4]],
    ] as const) {
      cells.push(cell(0.5, 3, arm));
      for (const [i, loss] of losses.entries())
        cells.push({ phase: 'compare', arm, rate: 0.5, seed: i + 1, loss, seconds: 1 });
    }
    const text = muonTables(cells);
    expect(text).toContain('| AdamW | **3.0000** | diverged |');
    expect(text).toContain(
      '| Muon, Polar Express | 0.5 | 1.5000 (1.0000–2.0000) | −2.0000 [−2.0000, −2.0000] | −0.5000 [−0.5000, −0.5000] |',
    );
    expect(text).toContain('| AdamW | 0.5 | 3.5000 (3.0000–4.0000) | – | +1.5000 [+1.5000, +1.5000] |');
  });
});

describe('claims/muon', () => {
  it('sweeps, compares, writes its report, and goes on behind what it has', async () => {
    const directory = path.join(folder, 'muon');
    const overrides = [
      ...small,
      'steps=2',
      'seeds=2',
      'muonRates=[0.02]',
      'adamRates=[0.004]',
      'extensions=0',
    ];
    const { outcome } = await launch(muonClaim as never, { overrides, directory });
    // Four arms: one rate, then two seeds each.
    expect(outcome).toMatchObject({ status: 'finished', step: 12 });
    const file = path.join(directory, 'cells.jsonl');
    const cells = readFileSync(file, 'utf8');
    const parsed = cells
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as MuonCell);
    for (const { loss } of parsed) expect(Math.abs(loss! - Math.log(257))).toBeLessThan(1);
    const report = readFileSync(path.join(directory, 'report.md'), 'utf8');
    expect(report).toContain('| Muon, You | 0.02 |');
    expect(readFileSync(path.join(directory, 'sweep.svg'), 'utf8')).toContain('<svg');
    // The last line is lost: only that training is done again, with the same result.
    writeFileSync(file, cells.slice(0, -20));
    await launch(muonClaim as never, { overrides, directory });
    const again = readFileSync(file, 'utf8').trim().split('\n').at(-1)!;
    const { seconds: _, ...last } = JSON.parse(again.slice(again.lastIndexOf('{'))) as MuonCell;
    expect(parsed.at(-1)).toMatchObject(last);
  });
});

describe('claims/polar', () => {
  it('takes matrices out of a training, and float32 agrees with exact arithmetic on them', async () => {
    const directory = path.join(folder, 'polar');
    const { outcome } = await launch(polarClaim as never, { overrides: [...small, 'steps=3'], directory });
    // Seven matrices of a layer, gradient and momentum each.
    expect(outcome).toMatchObject({ status: 'finished', summary: { matrices: 14 } });
    const report = readFileSync(path.join(directory, 'report.md'), 'utf8');
    expect(report).toContain('| 10⁷ | 39 / – / – / – | 25 / 27 / 27 / 28 |');
    expect(report).toMatch(/mlp\.down, momentum \| \d+ × 16/);
    const distance = Number(/at most (\S+) from exact/.exec(report)![1]);
    expect(distance).toBeLessThan(0.02);
    expect(readFileSync(path.join(directory, 'gradient.svg'), 'utf8')).toContain('>mlp.up</text>');
  });
});
