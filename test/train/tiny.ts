import type { BatchSource, Feeds, Json } from '../../src/data/batch-source.js';
import {
  adamW,
  cosine,
  crossEntropy,
  gelu,
  groups,
  int32,
  type Optimizer,
  Rng,
  randn,
  scaled,
  sgd,
  type Tensor,
  variable,
  warmup,
  zeros,
} from '../../src/index.js';
import type { TrainOptions } from '../../src/train/options.js';

export const batchSize = 8;
export const inputs = { x: [batchSize, 6], y: int32([batchSize]) };
type Batch = { x: Tensor; y: Tensor };

/** A small network, the same numbers for the same seed. */
export class Network {
  readonly hidden;
  readonly bias = variable(zeros([16]));
  readonly out;

  constructor(seed = 1) {
    const rng = new Rng(seed).split('weights');
    this.hidden = variable(randn([6, 16], { std: 0.4, rng }), { role: 'matrix' });
    this.out = variable(randn([16, 3], { std: 0.3, rng }), { role: 'matrix' });
  }

  logits(x: Tensor): Tensor {
    return gelu(x.matmul(this.hidden).add(this.bias)).matmul(this.out);
  }

  loss = ({ x, y }: Batch): Tensor => crossEntropy(this.logits(x), y);
}

/** Batch `n` of a stream: points in six dimensions, classified by the largest of their first three. */
export function batchNumber(n: number, seed = 5): { x: Float32Array; y: Int32Array } {
  const x = new Rng(seed)
    .split('batch')
    .split(n)
    .normal(batchSize * 6);
  const y = Int32Array.from({ length: batchSize }, (_, i) => {
    const row = [...x.subarray(6 * i, 6 * i + 3)];
    return row.indexOf(Math.max(...row));
  });
  return { x, y };
}

/** Counts its batches: that is all its state. `poison` is the number of a batch that holds a NaN. */
export class Points implements BatchSource {
  n = 0;

  constructor(private readonly poison = -1) {}

  next(): Feeds {
    const batch = batchNumber(this.n);
    if (this.n === this.poison) batch.x[7] = Number.NaN;
    this.n++;
    return batch;
  }

  state(): Json {
    return { n: this.n };
  }

  restore(state: Json): void {
    this.n = (state as { n: number }).n;
  }
}

export type Mode = 'plain' | 'average' | 'groups' | 'split' | 'all';

const rate = warmup(5, cosine(0.02, 200, 0.001));

export function optimizerOf(mode: Mode): Optimizer {
  if (mode !== 'groups' && mode !== 'all') return adamW({ lr: rate, clipNorm: 1, weightDecay: 0.1 });
  return groups(
    [
      { name: 'bias', match: (p) => p.rank === 1, optimizer: sgd(0.05, { momentum: 0.9 }) },
      { name: 'out', match: /^out/, optimizer: adamW({ lr: scaled(rate, 0.5), weightDecay: 0 }) },
      { name: 'rest', optimizer: adamW({ lr: rate }) },
    ],
    { clipNorm: 1 },
  );
}

/** Settings of a run that exercises a mode. */
export function optionsOf(mode: Mode, steps: number) {
  const network = new Network();
  return {
    parameters: network,
    inputs,
    loss: network.loss,
    data: new Points(),
    optimizer: optimizerOf(mode),
    steps,
    microBatches: mode === 'split' || mode === 'all' ? 4 : 1,
    ...(mode === 'average' || mode === 'all' ? { average: { decay: 0.95 } } : {}),
    evaluate: { every: 10, batches: [batchNumber(-1), batchNumber(-2)] },
    save: { every: 3 },
    config: { mode, steps },
    progress: false,
  } satisfies TrainOptions<typeof inputs>;
}
