/**
 * Experiments on synthetic tasks: every arm (a kind of attention) is trained on every setting from several seeds, and
 * its errors are counted on fresh sequences. A paper's table is such an experiment beside its published numbers.
 */
import { Rng } from '../../core/random.js';
import { SyntheticBatches, type SyntheticTask, syntheticBatch } from '../../data/synthetic.js';
import { adamW, argmax, type Feed, float32, int32, linear, program, warmup } from '../../index.js';
import { type LanguageModelConfig, Transformer } from '../../models/index.js';
import { languageModelLoss } from '../../models/lm/loss.js';
import { countParameters, parametersOf } from '../../nn/index.js';
import { train } from '../../train/index.js';

/** What is trained on, and what is measured afterwards. */
export interface Setting {
  name: string;
  task: SyntheticTask;
  length: number;
  evaluations: readonly { name: string; task: SyntheticTask; length: number }[];
}

/** A model by what differs from the others. */
export interface Arm {
  name: string;
  model: Pick<LanguageModelConfig, 'attention' | 'keyConvolution'> & Partial<LanguageModelConfig>;
}

/** A table: settings by arms, and what the paper reports for `setting/evaluation` of an arm, in percent. */
export interface Experiment {
  settings: readonly Setting[];
  arms: readonly Arm[];
  published: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** What all trainings of an experiment share. */
export interface Budget {
  steps: number;
  /** Tokens of a step, in as many sequences as make them up. */
  tokens: number;
  lr: number;
  /** Standard deviation of the embedding table at the start. */
  embedding: number;
  /** Answers that are checked in each evaluation. */
  answers: number;
}

/** One training and its evaluations. */
export interface Cell {
  setting: string;
  arm: string;
  seed: number;
  /** Wrong answers and all of them, by evaluation. */
  errors: Record<string, { wrong: number; answers: number }>;
  /** Mean training loss of the last tenth of the steps. */
  loss: number;
  parameters: number;
  seconds: number;
}

/** Sequences of a training step. */
export const sequencesOf = ({ tokens }: Pick<Budget, 'tokens'>, { length }: Setting): number =>
  Math.max(1, Math.floor(tokens / length));

/** Sequences of one evaluation batch. */
const evaluationBatch = 64;

/** Trains one arm on one setting from one seed; undefined if the signal came first. */
export async function runCell(
  setting: Setting,
  arm: Arm,
  seed: number,
  shape: LanguageModelConfig,
  budget: Budget,
  signal: AbortSignal,
): Promise<Cell | undefined> {
  const started = performance.now();
  const longest = Math.max(setting.length, ...setting.evaluations.map((one) => one.length));
  const config = { ...shape, ...arm.model, vocabulary: setting.task.vocabulary, context: longest };
  const rng = new Rng(seed).split('claims');
  const model = new Transformer(config, { rng: rng.split('weights'), std: 'fan-in' });
  scaleEmbedding(model, budget.embedding);
  const batch = sequencesOf(budget, setting);
  const rows = int32([batch, setting.length]);
  const losses: number[] = [];
  const result = await train({
    parameters: model,
    inputs: { tokens: rows, targets: rows, weights: float32([batch, setting.length]) },
    loss: (batch) => languageModelLoss(model, batch),
    data: new SyntheticBatches(setting.task, { batch, length: setting.length, seed }),
    optimizer: adamW({
      lr: warmup(Math.min(100, budget.steps / 10), linear(budget.lr, 0, budget.steps)),
      beta2: 0.98,
      weightDecay: 0.1,
      clipNorm: 1,
    }),
    steps: budget.steps,
    keepPrevious: false,
    progress: false,
    handleSignals: false,
    signal,
    onEvent: (event) => {
      if (event.kind === 'train' && event.step > 0.9 * budget.steps) losses.push(Number(event.loss));
    },
  });
  if (result.step < budget.steps) return undefined;
  const errors: Cell['errors'] = {};
  for (const evaluation of setting.evaluations) {
    const source = rng.split(`evaluation ${evaluation.name}`);
    const counted = await countErrors(model, evaluation, budget.answers, source, signal);
    if (!counted) return undefined;
    errors[evaluation.name] = counted;
  }
  return {
    setting: setting.name,
    arm: arm.name,
    seed,
    errors,
    loss: losses.reduce((a, b) => a + b, 0) / losses.length,
    parameters: countParameters(model),
    seconds: (performance.now() - started) / 1000,
  };
}

/** Gives a new model's embedding table another standard deviation; `fan-in` has made it 0.02. */
function scaleEmbedding(model: Transformer, std: number): void {
  const table = parametersOf(model).get('embedding.weight')!;
  if (std !== 0.02) table.data.set(table.data.map((value: number) => (value * std) / 0.02));
}

/** Wrong answers of a model on fresh sequences, until `atLeast` have been checked. */
async function countErrors(
  model: Transformer,
  { task, length }: { task: SyntheticTask; length: number },
  atLeast: number,
  rng: Rng,
  signal: AbortSignal,
): Promise<{ wrong: number; answers: number } | undefined> {
  const shape = { batch: evaluationBatch, length };
  const predict = program({ tokens: int32([evaluationBatch, length]) }, ({ tokens }) => ({
    classes: argmax(model.forward(tokens)),
  }));
  let [wrong, answers] = [0, 0];
  for (let i = 0; answers < atLeast; i++) {
    if (signal.aborted) return undefined;
    const { tokens, targets, weights } = syntheticBatch(task, shape, rng.split(i));
    const { classes } = await predict({ tokens: tokens as Feed });
    for (let at = 0; at < weights.data.length; at++) {
      if (weights.data[at] === 0) continue;
      answers++;
      if (classes.data[at] !== targets.data[at]) wrong++;
    }
  }
  predict.dispose();
  return { wrong, answers };
}
