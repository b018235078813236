/**
 * Error after k matrix products of the Polar Express against Newton–Schulz and the lists of Jordan and You (Polar Express,
 * figures 4 and 5), for condition numbers 10 to 10⁷ and for gradients of a training:
 *
 *     anneal run claims/polar
 *
 * The first part is exact arithmetic on singular values. The second trains a small GPT on Moby Dick, takes the singular
 * values of its last layer's gradients and of Muon's momentum, and also orthogonalises them in float32, which must agree.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { TokenBatches } from '../../data/index.js';
import { type Feed, grad, int32, muon, polarExpress, program, type Variable } from '../../index.js';
import { languageModelLoss } from '../../models/lm/loss.js';
import { parametersOf } from '../../nn/index.js';
import { adamW, groups } from '../../optim/index.js';
import { evaluatePolynomial } from '../../optim/polar-coefficients.js';
import { polarSteps } from '../../optim/polar-plan.js';
import { type RunContext, type RunOutcome, recipe } from '../recipe.js';
import { errorChart, type Matrix, polarTables } from './polar-tables.js';
import { singularValues } from './singular-values.js';
import { encodeNovel, gptSettings, type Novel, trainGpt } from './small-gpt.js';

const schema = z.strictObject({
  steps: z.int().min(1).default(200).describe('training steps before the gradients are taken'),
  rate: z.number().positive().default(0.02).describe('learning rate of Muon'),
  seed: z.int().min(0).default(0).describe('of weights and batches'),
  ...gptSettings,
});
type Config = z.output<typeof schema>;

/** A matrix out of the training. */
interface Raw {
  name: string;
  data: Float32Array;
  rows: number;
  columns: number;
}

/** Trains, and returns gradients on a fresh batch and momenta of the matrices of the last layer. */
async function trainedMatrices(context: RunContext<Config, Novel>): Promise<Raw[] | undefined> {
  const { config, prepared: novel, signal } = context;
  const { steps, seed, batch, context: length, rate } = config;
  const matrices = muon({ lr: rate });
  const optimizer = groups(
    [
      { name: 'matrices', match: ({ role }) => role === 'matrix', optimizer: matrices },
      { name: 'rest', optimizer: adamW({ lr: 4e-3 }) },
    ],
    { clipNorm: 1 },
  );
  const trained = await trainGpt({ config, novel, optimizer, steps, seed, signal });
  if (!trained) return undefined;
  const { model } = trained;
  const last = `layers.${config.layers - 1}.`;
  const chosen = [...parametersOf(model).values()].filter(
    ({ name, role }) => name.startsWith(last) && role === 'matrix',
  );
  const gradients = program(
    { tokens: int32([batch, length]), targets: int32([batch, length]) },
    ({ tokens, targets }) => {
      const all = grad(languageModelLoss(model, { tokens, targets }), chosen);
      return Object.fromEntries(all.map((gradient, i) => [`g${i}`, gradient]));
    },
  );
  const fresh = new TokenBatches(novel.training, { batch, context: length, mode: 'random', seed: seed + 1 });
  const { tokens, targets } = fresh.next();
  const results = await gradients({ tokens: tokens as Feed, targets: targets as Feed });
  const momenta = matrices.state();
  return chosen.flatMap((parameter, i) => [
    rawOf(parameter, 'gradient', results[`g${i}`]!.data as Float32Array, last),
    rawOf(parameter, 'momentum', momenta.get(`${parameter.name}.muon.momentum`)!.data as Float32Array, last),
  ]);
}

function rawOf({ name, shape }: Variable, what: string, data: Float32Array, prefix: string): Raw {
  const short = name.slice(prefix.length).replace('.weight', '');
  return { name: `${short}, ${what}`, data: Float32Array.from(data), rows: shape[0]!, columns: shape[1]! };
}

/** Largest distance between the singular values of float32's result of five steps and exact arithmetic's. */
async function float32Distance({ data, rows, columns }: Raw, values: readonly number[]): Promise<number> {
  const norm = Math.hypot(...values) + 1e-7;
  const run = program({ x: [rows, columns] }, ({ x }) => ({ y: polarExpress(x) }));
  const { y } = await run({ x: data });
  const got = singularValues(y.data, rows, columns);
  run.dispose();
  const want = values
    .map((s) => polarSteps({}).reduce((value, p) => evaluatePolynomial(p, value), s / norm))
    .sort((a, b) => b - a);
  return got.reduce((max, s, i) => Math.max(max, Math.abs(s - want[i]!)), 0);
}

async function measured(raw: Raw): Promise<Matrix> {
  const { name, data, rows, columns } = raw;
  const values = singularValues(data, rows, columns);
  const norm = Math.hypot(...values);
  const sigma = values.map((s) => s / norm);
  return { name, shape: [rows, columns], sigma, distance: await float32Distance(raw, values) };
}

async function run(context: RunContext<Config, Novel>): Promise<RunOutcome> {
  const { directory, print } = context;
  mkdirSync(directory, { recursive: true });
  const raw = await trainedMatrices(context);
  if (!raw) return { status: 'stopped', step: 0, summary: {} };
  const matrices: Matrix[] = [];
  for (const one of raw) matrices.push(await measured(one));
  const tables = polarTables(matrices);
  print(`\n${tables}\n`);
  const shown = matrices.find(({ name }) => name.endsWith('up, momentum')) ?? matrices[0]!;
  writeFileSync(path.join(directory, 'condition.svg'), errorChart('κ = 10⁶', 1e6));
  writeFileSync(path.join(directory, 'gradient.svg'), errorChart(shown.name.split(',')[0]!, shown));
  writeFileSync(
    path.join(directory, 'report.md'),
    `# ${context.recipe}\n\n${tables}\n\n![Error by matrix products, condition number 10⁶](condition.svg)\n\n![Error by matrix products, ${shown.name}](gradient.svg)\n`,
  );
  return {
    status: 'finished',
    step: context.config.steps,
    summary: { matrices: matrices.length, report: path.join(directory, 'report.md') },
  };
}

export const polarClaim = recipe({
  name: 'claims/polar',
  summary:
    'Polar Express, figures 4 and 5: error after k matrix products, for condition numbers and for gradients of a training',
  config: schema,
  prepare: ({ vocabulary }) => encodeNovel(vocabulary),
  derive: ({ steps, batch, context }) => [
    { name: 'trainingTokens', value: steps * batch * context, unit: 'tokens' },
  ],
  run,
});
