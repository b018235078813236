import { describe, expect, it } from 'vitest';
import { summarise } from '../../bench/harness.js';
import type { DuelResult } from '../../bench/lm/duel.js';
import { optimJob } from '../../bench/optim/job.js';
import { optim, ROW_IDS, rowOf, shareOf } from '../../bench/optim.js';

const samples = (figures: Record<string, number[]>) =>
  Object.fromEntries(Object.entries(figures).map(([name, values]) => [name, summarise(values)]));

const result: DuelResult = {
  results: new Map([
    [
      'ours',
      {
        about: 'anneal, 2 threads',
        after: {},
        samples: samples({
          step: [1000, 1000],
          muon: [100, 100],
          adamw: [5, 5],
          longSide: [900, 900],
          single: [300, 300],
          plain: [1100, 1100],
        }),
      },
    ],
    ['peer', { about: 'PyTorch 2', after: {}, samples: samples({ muon: [250, 250], adamw: [9, 9] }) }],
  ]),
  missing: new Map(),
};

describe('the suite of optimisers', () => {
  it('has the matrices inside the layers of the 10.7 M model, and nothing else', () => {
    const { matrices } = optimJob(2);
    expect(matrices).toHaveLength(24);
    expect(matrices.reduce((n, { shape }) => n + shape[0]! * shape[1]!, 0)).toBe(6 * 12 * 384 * 384);
    expect(optim.ids).toEqual(ROW_IDS);
  });

  it('takes an update’s share of a step that has it in the place of Muon’s', () => {
    const of = (name: string) => result.results.get('ours')!.samples[name]!;
    expect(shareOf(of('muon'), of('muon'), of('step')).value).toBeCloseTo(10, 12);
    // 300 of 1000 - 100 + 300.
    expect(shareOf(of('single'), of('muon'), of('step')).value).toBeCloseTo(25, 12);
  });

  it('makes rows with their bounds', () => {
    const values = Object.fromEntries(ROW_IDS.map((id) => [id, rowOf(id, result)]));
    expect(values['muon-share']).toMatchObject({ value: 10, target: 10, met: true, unit: '%' });
    expect(values['muon-share-plain']).toMatchObject({ value: expect.closeTo(55, 9), met: null });
    expect(values['muon-share-saving']).toMatchObject({
      value: expect.closeTo(5.5, 9),
      target: 5,
      met: true,
      unit: 'x',
    });
    expect(values['muon-vs-torch']).toMatchObject({ value: 2.5, peer: 'PyTorch 2', better: 'higher' });
    expect(values['muon-ms-torch']).toMatchObject({ value: 250, unit: 'ms' });
  });

  it('says why a row has no value', () => {
    const alone = { results: new Map([...result.results].slice(0, 1)), missing: new Map([['peer', 'gone']]) };
    const row = rowOf('muon-vs-torch', alone as DuelResult);
    expect([row.value, row.note]).toEqual([null, 'torch.optim.Muon: gone']);
    expect(rowOf('muon-share', alone as DuelResult).value).toBe(10);
  });
});
