import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { summarise } from '../../bench/harness.js';
import type { DuelResult } from '../../bench/lm/duel.js';
import { type GrpoJob, grpoJob } from '../../bench/rl/job.js';
import { open } from '../../bench/rl/ours-grpo.js';
import { CLAIMS, ROW_IDS, stepRow } from '../../bench/rl/rows.js';
import { rl } from '../../bench/rl.js';
import { Transformer } from '../../src/models/lm/transformer.js';
import { countParameters } from '../../src/nn/module.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-rl-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('the suite of reinforcement learning', () => {
  it('has the rows that are promised, with their bounds', () => {
    expect(Object.entries(CLAIMS).map(([id, { better, target }]) => [id, better, target])).toEqual([
      ['grpo-1m', 'higher', 3.5],
      ['grpo-4m', 'higher', 2.5],
      ['rollout-share', 'higher', 60],
      ['js-overhead', 'lower', 10],
      ['shared-prompts', 'higher', null],
      ['grpo-memory', 'lower', 1.05],
    ]);
    expect(rl.ids).toEqual(ROW_IDS);
  });

  it('trains models of the sizes that its rows name', () => {
    const millions = (dim: number) => {
      const { config } = grpoJob(dim, 1);
      return Math.round(countParameters(new Transformer({ ...config, tied: false })) / 1e4) / 100;
    };
    expect([128, 256].map(millions)).toEqual([1.07, 4.25]);
  });

  it('compares steps by how much longer the peer takes', () => {
    const side = (about: string, seconds: number[], rest: object) => ({
      about,
      samples: { seconds: summarise(seconds), ...rest },
      after: {},
    });
    const parts = { rollout: summarise([0.1]), update: summarise([0.15]) };
    const result: DuelResult = {
      results: new Map([
        ['ours', side('anneal', [0.2, 0.25, 0.3], parts)],
        ['peer', side('TRL 1', [0.8, 1, 1.2], {})],
      ]),
      missing: new Map(),
    };
    expect(stepRow('grpo-1m', result, 'TRL')).toMatchObject({
      value: 4,
      met: true,
      peer: 'TRL 1',
      repeats: 3,
      note: '250 ms (rollouts 100, update 150) against 1,000 ms',
    });
    const alone: DuelResult = { results: new Map(), missing: new Map([['peer', 'not installed']]) };
    expect(stepRow('grpo-4m', alone, 'TRL')).toMatchObject({ value: null, note: 'TRL: not installed' });
  });

  it('does whole steps on our side', async () => {
    const job: GrpoJob = { ...grpoJob(32, 2), prompts: 2, promptLength: 5, samples: 2, tokens: 8 };
    const file = path.join(folder, 'job.json');
    writeFileSync(file, JSON.stringify({ ...job, config: { ...job.config, layers: 1 } }));
    expect(JSON.parse(readFileSync(file, 'utf8')).prompts).toBe(2);
    const { operations } = await open(file);
    const trained = await operations.train!({ op: 'train', steps: 2 });
    expect(trained.type).toBe('trained');
    const [seconds, rollout, update] = [trained.seconds, trained.rollout, trained.update] as number[];
    expect(rollout! + update!).toBeLessThanOrEqual(seconds!);
    expect(Math.min(rollout!, update!)).toBeGreaterThan(0);
    const sampled = await operations.sample!({ op: 'sample' });
    expect(sampled.seconds).toBeGreaterThan(0);
    const compared = await operations.layouts!({ op: 'layouts', repeats: 1 });
    expect(Math.min(compared.shared as number, compared.rows as number)).toBeGreaterThan(0);
  });
});
