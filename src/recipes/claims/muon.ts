/**
 * Muon with three orthogonalisations against AdamW on real text (Polar Express, figures 6 and 7, at a size for two
 * processor cores):
 *
 *     anneal run claims/muon                   # a sweep of the learning rate, then five seeds at the best one
 *     anneal run claims/muon seeds=3 steps=800
 *
 * All arms see the same batches from the same weights. The sweep uses seed 0 and goes on beyond its ends while the best
 * rate is at one; the comparison uses other seeds. Every training is a line of cells.jsonl: a stopped run goes on behind it.
 */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { adamW, groups, muon, type Schedule, warmup, warmupStableDecay } from '../../index.js';
import type { Optimizer } from '../../optim/index.js';
import { NonFiniteError } from '../../train/index.js';
import { duration } from '../format.js';
import { type RunContext, type RunOutcome, recipe } from '../recipe.js';
import { readCells } from './cells.js';
import { type Arm, arms, bestRate, type MuonCell, nextRate } from './muon-sweep.js';
import { muonTables, sweepChart } from './muon-tables.js';
import { encodeNovel, gptSettings, type Novel, trainGpt } from './small-gpt.js';

const rates = (list: readonly number[], whose: string) =>
  z
    .array(z.number().positive())
    .min(1)
    .default([...list])
    .describe(`peak learning rates of the sweep, ${whose}`);

const schema = z.strictObject({
  steps: z.int().min(2).default(400).describe('training steps of every training'),
  seeds: z.int().min(2).default(5).describe('trainings of each arm at its best rate'),
  muonRates: rates([0.01, 0.02, 0.04], 'Muon'),
  adamRates: rates([1e-3, 2e-3, 4e-3], 'AdamW'),
  extensions: z.int().min(0).default(3).describe('rates that may be added where the best one is at an end'),
  auxiliaryRate: z
    .number()
    .positive()
    .default(4e-3)
    .describe("peak rate of AdamW for embedding and gains in Muon's arms"),
  warmup: z
    .int()
    .min(0)
    .default(100)
    .describe('steps of a linear rise of all rates: AdamW suffers where it is short'),
  beta2: z.number().min(0).lt(1).default(0.99).describe("AdamW's decay of the gradients' squares"),
  weightDecay: z.number().min(0).default(0).describe('decoupled weight decay, all arms'),
  ...gptSettings,
});
type Config = z.output<typeof schema>;

/** The paper's schedule: constant until 40 % of the steps are done, then straight to 0; and a rise at the start. */
const scheduleOf = (rate: number, config: Config): Schedule =>
  warmup(config.warmup, warmupStableDecay(rate, 0.4 * config.steps, 0.6 * config.steps));

function optimizerOf({ coefficients }: Arm, rate: number, config: Config): Optimizer {
  const { auxiliaryRate, weightDecay, beta2 } = config;
  const adam = (peak: number) => ({ lr: scheduleOf(peak, config), beta2, weightDecay });
  if (!coefficients) return adamW({ ...adam(rate), clipNorm: 1 });
  const matrices = muon({ lr: scheduleOf(rate, config), weightDecay, polar: { coefficients } });
  return groups(
    [
      { name: 'matrices', match: ({ role }) => role === 'matrix', optimizer: matrices },
      { name: 'rest', optimizer: adamW(adam(auxiliaryRate)) },
    ],
    { clipNorm: 1 },
  );
}

/** Does trainings and keeps their cells. */
class Trainings {
  readonly cells: MuonCell[];
  readonly #file: string;

  constructor(private readonly context: RunContext<Config, Novel>) {
    this.#file = path.join(context.directory, 'cells.jsonl');
    this.cells = readCells<MuonCell>(this.#file);
  }

  /** Trains what is not there yet. @returns false if the signal came first */
  async have(phase: MuonCell['phase'], arm: Arm, rate: number, seed: number): Promise<boolean> {
    const isSame = (cell: MuonCell) =>
      cell.phase === phase && cell.arm === arm.name && cell.rate === rate && cell.seed === seed;
    if (this.cells.some(isSame)) return true;
    const { config, prepared: novel, signal, print } = this.context;
    const started = performance.now();
    let loss: number | null = null;
    try {
      const optimizer = optimizerOf(arm, rate, config);
      const trained = await trainGpt({ config, novel, optimizer, steps: config.steps, seed, signal });
      if (!trained) return false;
      if (Number.isFinite(trained.loss)) loss = trained.loss;
    } catch (error) {
      if (!(error instanceof NonFiniteError)) throw error;
    }
    const seconds = (performance.now() - started) / 1000;
    this.cells.push({ phase, arm: arm.name, rate, seed, loss, seconds });
    appendFileSync(this.#file, `${JSON.stringify(this.cells.at(-1))}\n`);
    const about = this.#left();
    print(
      `${phase}  ${arm.name}, rate ${rate}, seed ${seed}: ${loss?.toFixed(4) ?? 'diverged'}  (${about})\n`,
    );
    return true;
  }

  #left(): string {
    const { muonRates, adamRates, seeds } = this.context.config;
    const all = 3 * muonRates.length + adamRates.length + arms.length * seeds;
    const mean = this.cells.reduce((sum, cell) => sum + cell.seconds, 0) / this.cells.length;
    return `${duration(Math.max(0, all - this.cells.length) * mean)} left`;
  }
}

async function run(context: RunContext<Config, Novel>): Promise<RunOutcome> {
  const { config, directory, print } = context;
  mkdirSync(directory, { recursive: true });
  const trainings = new Trainings(context);
  const { cells } = trainings;
  const stopped = (): RunOutcome => ({ status: 'stopped', step: cells.length, summary: {} });
  for (const arm of arms) {
    const list = arm.coefficients ? config.muonRates : config.adamRates;
    for (;;) {
      const rate = nextRate(cells, arm.name, list, config.extensions);
      if (rate === undefined) break;
      if (!(await trainings.have('sweep', arm, rate, 0))) return stopped();
    }
  }
  for (let seed = 1; seed <= config.seeds; seed++) {
    for (const arm of arms) {
      if (!(await trainings.have('compare', arm, bestRate(cells, arm.name)!, seed))) return stopped();
    }
  }
  const tables = muonTables(cells);
  print(`\n${tables}\n`);
  writeFileSync(path.join(directory, 'sweep.svg'), sweepChart(cells));
  writeFileSync(
    path.join(directory, 'report.md'),
    `# ${context.recipe}\n\n${tables}\n\n![Validation loss by learning rate](sweep.svg)\n`,
  );
  return {
    status: 'finished',
    step: cells.length,
    summary: { trainings: cells.length, report: path.join(directory, 'report.md') },
  };
}

export const muonClaim = recipe({
  name: 'claims/muon',
  summary:
    'Polar Express, figures 6 and 7: Muon with three orthogonalisations against AdamW on a small GPT, each at its best rate',
  config: schema,
  prepare: ({ vocabulary }) => encodeNovel(vocabulary),
  derive: ({ muonRates, adamRates, seeds, steps, batch, context }, { training }) => {
    const trainings = 3 * muonRates.length + adamRates.length + arms.length * seeds;
    return [
      { name: 'trainings', value: trainings, unit: '' },
      { name: 'trainingTokens', value: trainings * steps * batch * context, unit: 'tokens' },
      { name: 'epochs', value: (steps * batch * context) / training.length, unit: '' },
    ];
  },
  run,
});
