/** Our side of a training run: the library's loop, held up between turns, with its log and checkpoints. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { adamW, configure, cosine, float32, int32, program, warmup } from 'anneal';
import type { Feeds } from 'anneal/data';
import { languageModelLoss, Transformer } from 'anneal/models';
import { parametersOf } from 'anneal/nn';
import { type TrainResult, train } from 'anneal/train';
import type { OpenSide } from './side.js';
import { fullBatches, modelConfig, readCorpus, type TrainingJob, trainingBatches } from './training-job.js';

/** Holds the loop up at some step, until more steps are allowed. */
class Gate {
  #allowed = 0;
  #reached: ((step: number) => void) | undefined;
  #release: (() => void) | undefined;

  /** The loop is at this step; resolves when it may go on. */
  async arrive(step: number, isLast: boolean): Promise<void> {
    if (step < this.#allowed) return;
    this.#reached?.(step);
    if (isLast) return;
    await new Promise<void>((resolve) => {
      this.#release = resolve;
    });
  }

  /** Lets the loop go on to a step; resolves when it is there. */
  goTo(step: number): Promise<number> {
    this.#allowed = step;
    const arrived = this.next();
    this.#release?.();
    return arrived;
  }

  /** Resolves when the loop is held up. */
  next(): Promise<number> {
    return new Promise((resolve) => {
      this.#reached = resolve;
    });
  }
}

function loadWeights(model: Transformer, folder: string, job: TrainingJob): void {
  const values = new Float32Array(new Uint8Array(readFileSync(path.join(folder, 'weights.bin'))).buffer);
  const parameters = parametersOf(model);
  let at = 0;
  for (const { name } of job.parameters) {
    const { data, size } = parameters.get(name)!;
    (data as Float32Array).set(values.subarray(at, at + size));
    at += size;
  }
}

/** Mean loss over batches. */
async function meanLoss(model: Transformer, context: number, batches: readonly Feeds[]): Promise<number> {
  const row = [null, context];
  const evaluation = program({ tokens: int32(row), targets: int32(row) }, (batch) => ({
    loss: languageModelLoss(model, batch),
  }));
  let sum = 0;
  for (const { tokens, targets } of batches) {
    sum += (await evaluation({ tokens: tokens!, targets: targets! })).loss.item();
  }
  return sum / batches.length;
}

/** Starts a run, which waits for its first step. */
export const open: OpenSide = async (folder) => {
  const job = JSON.parse(readFileSync(path.join(folder, 'job.json'), 'utf8')) as TrainingJob;
  configure({ threads: job.threads });
  const { training, validation } = readCorpus(job.text);
  const model = new Transformer(modelConfig(job, training.vocabularySize), { initialize: false });
  loadWeights(model, folder, job);
  const { lr, finalLr, warmup: rise, ...adam } = job.optimizer;
  const gate = new Gate();
  const losses: number[] = [];
  const row = [null, job.context];
  const started = gate.next();
  const run: Promise<TrainResult> = train({
    parameters: model,
    // Rows of random places are full: their weights are 1 and need not be multiplied.
    inputs: { tokens: int32(row), targets: int32(row), weights: float32(row) },
    loss: ({ tokens, targets }) => languageModelLoss(model, { tokens, targets }),
    data: trainingBatches(training, job),
    optimizer: adamW({ ...adam, lr: warmup(rise, cosine(lr, job.steps, finalLr)) }),
    steps: job.steps,
    microBatches: 'auto',
    evaluate: {
      every: job.gate,
      metric: 'gate',
      run: async ({ step, isLast }) => {
        await gate.arrive(step, isLast);
        return { gate: step };
      },
    },
    save: { every: 250 },
    directory: path.join(folder, 'run'),
    progress: false,
    report: false,
    handleSignals: false,
    onEvent: (event) => {
      if (event.kind === 'train') losses.push(event.loss);
    },
  });
  // Whichever comes first: the gate, or an error before it.
  let step = await Promise.race([started, run.then((result) => result.step)]);
  return {
    about: `anneal, ${job.threads} threads`,
    operations: {
      train: async ({ steps }) => {
        const from = step;
        const start = performance.now();
        step = await Promise.race([gate.goTo(step + Number(steps)), run.then((result) => result.step)]);
        const seconds = (performance.now() - start) / 1000;
        return { type: 'trained', seconds, losses: losses.slice(from, step) };
      },
      evaluate: async () => {
        const loss = await meanLoss(model, job.context, fullBatches(validation, job));
        return { type: 'evaluated', loss };
      },
    },
  };
};
