import { grad } from '../core/autodiff.js';
import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import type { InputSpec } from '../core/feeds.js';
import { add } from '../core/ops/elementwise.js';
import { program } from '../core/program.js';
import type { Tensor } from '../core/tensor.js';
import { Variable } from '../core/variable.js';
import type { Optimizer } from '../optim/optimizer.js';
import { type PolicyLossOptions, policyLoss } from './losses.js';
import {
  type MicroBatch,
  microBatchesOf,
  type PassShape,
  sequenceFeeds,
  spread,
  tokensOf,
} from './micro-batches.js';
import { PassCache } from './pass-cache.js';
import {
  type AnyPass,
  completionLogprobs,
  largestDifference,
  type PolicyModel,
  sequenceInputs,
} from './policy-pass.js';

/** A completion with all that its part of an update depends on; arrays have an entry per token of it. */
export interface TrainingSample {
  readonly prompt: Int32Array;
  readonly tokens: Int32Array;
  /** 0 where an environment wrote the token. Absent: all 1. */
  readonly mask?: Uint8Array;
  readonly advantages: Float32Array;
  /** See `tokenWeights`: they add up to the normalisation of the whole batch. */
  readonly weights: Float32Array;
  /** Log-probabilities under the weights that sampled. Absent: those are the present weights, and the ratio is exactly 1. */
  readonly oldLogprobs?: Float32Array;
  /** Needed for a KL in the loss. */
  readonly referenceLogprobs?: Float32Array;
  /** What the sampler said (`Sample.logprobs` at temperature 1): the update reports how far it is off. */
  readonly sampledLogprobs?: Float32Array;
  /** Equal groups have one prompt. */
  readonly group?: number;
}

/** What an update did. */
export interface UpdateReport {
  /** Of the whole batch. About 0 where the policy is on-policy and advantages are centred: look at `gradNorm`. */
  loss: number;
  /** Global norm of the gradient before clipping. */
  gradNorm: number;
  lr: number;
  /** Rates by group of parameters, where the optimiser has several. */
  rates: Record<string, number>;
  /** Share of the tokens whose ratio was clipped. */
  clipFraction: number;
  /** KL(old ‖ new) before the update. */
  approximateKl: number;
  /** KL to the reference, where the loss has one. */
  kl?: number;
  /** Mean entropy, in nats, of the distributions that the tokens came from. */
  entropy: number;
  /** Largest difference between a log-probability here and what the sampler said, where the batch says it. */
  sampleDifference?: number;
  /** Tokens that were learnt from; those of samples without advantage, KL and entropy bonus are none. */
  tokens: number;
  /** Tokens that were computed, prompts and padding included. */
  computedTokens: number;
  microBatches: number;
  ms: number;
}

/** An update whose loss or gradient was a NaN or an infinity. The weights and the optimiser are as before it. */
export class NonFiniteUpdateError extends AnnealError {
  override name = 'NonFiniteUpdateError';
}

/** Inputs [B, T] that only some batches have, by the name of the sample's array. */
const optionalInputs = ['oldLogprobs', 'referenceLogprobs', 'sampledLogprobs'] as const;
type OptionalInput = (typeof optionalInputs)[number];

/** Settings of an updater. */
export interface UpdaterOptions {
  optimizer: Optimizer;
  loss: PolicyLossOptions;
  layout: PassShape['layout'];
  microBatchTokens: number;
}

function checkSample(sample: TrainingSample, index: number, given: ReadonlySet<OptionalInput>): void {
  const n = sample.tokens.length;
  for (const name of ['advantages', 'weights', 'mask', ...optionalInputs] as const) {
    const length = sample[name]?.length;
    if (length !== undefined && length !== n)
      throw new AnnealError(`update: sample ${index} has ${n} tokens, but ${length} ${name}`);
  }
  for (const name of optionalInputs) {
    if (given.has(name) !== (sample[name] !== undefined))
      throw new AnnealError(
        `update: only some samples have ${name}, e.g. not sample ${index}; give all or none`,
      );
  }
}

/**
 * The update of a policy: gradients of one micro-batch after the other are added up, then the optimiser runs once.
 * Weights of tokens are those of the whole batch, so the split makes no difference but for rounding.
 */
export class PolicyUpdater {
  readonly #parameters: readonly Variable[];
  readonly #sums: readonly Variable[];
  readonly #apply: AnyPass;
  readonly #passes = new PassCache();

  constructor(
    private readonly model: PolicyModel,
    parameters: ReadonlyMap<string, Variable>,
    private readonly options: UpdaterOptions,
  ) {
    this.#parameters = [...parameters.values()];
    this.#sums = [...parameters].map(
      ([name, { shape, size }]) =>
        new Variable(allocate('float32', size), 'float32', shape, {
          name: `${name}.gradient`,
          trainable: false,
        }),
    );
    this.#apply = program(
      {},
      () => {
        const { rate, rates = {}, gradNorm } = options.optimizer.apply(this.#sums, this.#parameters);
        const byGroup = Object.entries(rates).map(([name, t]) => [`lr.${name}`, t]);
        return { lr: rate, gradNorm, ...(Object.fromEntries(byGroup) as Record<string, Tensor>) };
      },
      { name: 'policy update', keepPrevious: true },
    ) as AnyPass;
  }

  /** Makes the optimiser's state, which comes into being with the program that uses it. */
  async prepare(): Promise<void> {
    await this.#apply.compile({});
  }

  dispose(): void {
    this.#apply.dispose();
    this.#passes.dispose();
  }

  /**
   * @param updates updates so far, for messages
   * @throws AnnealError if a sample's arrays do not fit; NonFiniteUpdateError
   */
  async update(
    batch: readonly TrainingSample[],
    temperature: number,
    updates: number,
  ): Promise<UpdateReport> {
    const start = performance.now();
    const given = new Set(
      optionalInputs.filter((name) => batch.some((sample) => sample[name] !== undefined)),
    );
    batch.forEach((sample, i) => {
      checkSample(sample, i, given);
    });
    if (this.options.loss.kl && !given.has('referenceLogprobs') && batch.length > 0) {
      throw new AnnealError(
        'update: the loss has a KL, but the samples have no referenceLogprobs; compute them with logprobs(samples, { reference: true })',
      );
    }
    const used = batch.filter((sample) => this.#matters(sample));
    const tokens = used.reduce((n, sample) => n + countOf(sample), 0);
    const { layout, microBatchTokens } = this.options;
    const { context } = this.model.config;
    const parts = microBatchesOf(used, { layout, tokens: microBatchTokens, context });
    const totals = await this.#accumulate(parts, used, given, temperature, tokens);
    const applied = await this.#step(totals.loss ?? 0, updates);
    const computed = parts.map(({ shape }) => tokensOf(shape));
    return {
      loss: totals.loss ?? 0,
      ...applied,
      clipFraction: totals.clipFraction ?? 0,
      approximateKl: totals.approximateKl ?? 0,
      ...(this.options.loss.kl && { kl: totals.kl ?? 0 }),
      entropy: totals.entropy ?? 0,
      ...(given.has('sampledLogprobs') && { sampleDifference: totals.sampleDifference ?? 0 }),
      tokens,
      computedTokens: computed.reduce((a, b) => a + b, 0),
      microBatches: parts.length,
      ms: performance.now() - start,
    };
  }

  /** Whether a sample has any part in the gradient. */
  #matters({ advantages, weights, mask }: TrainingSample): boolean {
    const { kl, entropy } = this.options.loss;
    const isRegularized = kl !== undefined || Boolean(entropy);
    return weights.some((w, t) => w !== 0 && mask?.[t] !== 0 && (isRegularized || advantages[t] !== 0));
  }

  /** Adds the gradients of all micro-batches to the sums; returns the sums of their scalars. */
  async #accumulate(
    parts: readonly MicroBatch[],
    samples: readonly TrainingSample[],
    given: ReadonlySet<OptionalInput>,
    temperature: number,
    tokens: number,
  ): Promise<Record<string, number>> {
    const totals: Record<string, number> = {};
    this.#clear();
    for (const part of parts) {
      const pass = this.#passFor(part.shape, given, temperature);
      const values = await pass(feedsOf(part, samples, given, tokens));
      for (const [name, value] of Object.entries(values)) {
        const before = totals[name] ?? 0;
        totals[name] = name === 'sampleDifference' ? Math.max(before, value.item()) : before + value.item();
      }
    }
    return totals;
  }

  async #step(loss: number, updates: number): Promise<Pick<UpdateReport, 'gradNorm' | 'lr' | 'rates'>> {
    const refuse = (what: string): never => {
      throw new NonFiniteUpdateError(
        `update ${updates + 1} of the policy: ${what}; the weights are as they were before it. Look at the rewards and advantages, or lower the learning rate`,
      );
    };
    if (!Number.isFinite(loss)) refuse(`the loss is ${loss}`);
    const values = await this.#apply({});
    const gradNorm = values.gradNorm!.item();
    if (!Number.isFinite(gradNorm)) {
      this.#apply.undo();
      refuse(`the norm of the gradient is ${gradNorm}`);
    }
    const rates: Record<string, number> = {};
    for (const name in values) if (name.startsWith('lr.')) rates[name.slice(3)] = values[name]!.item();
    return { gradNorm, lr: values.lr!.item(), rates };
  }

  #clear(): void {
    for (const sum of this.#sums) sum.data.fill(0);
  }

  #passFor(shape: PassShape, given: ReadonlySet<OptionalInput>, temperature: number): AnyPass {
    const key = [...Object.values(shape), ...given, temperature].join();
    return this.#passes.get(key, () => this.#makePass(shape, given, temperature));
  }

  #makePass(shape: PassShape, given: ReadonlySet<OptionalInput>, temperature: number): AnyPass {
    const { rows, length } = shape;
    const names = ['advantages', 'weights', 'counts', ...given];
    const perToken = Object.fromEntries(names.map((name): [string, InputSpec] => [name, [rows, length]]));
    return program(
      { ...sequenceInputs(shape), ...perToken },
      (inputs: Record<string, Tensor>) => {
        const { logprobs, entropies } = completionLogprobs(this.model, shape, inputs, temperature);
        const { advantages, weights, counts, oldLogprobs, referenceLogprobs, sampledLogprobs } = inputs;
        const losses = policyLoss(
          {
            logprobs,
            entropies,
            advantages: advantages!,
            weights: weights!,
            counts: counts!,
            ...(oldLogprobs && { oldLogprobs }),
            ...(referenceLogprobs && { referenceLogprobs }),
          },
          this.options.loss,
        );
        const gradients = grad(losses.loss, this.#parameters);
        this.#sums.forEach((sum, i) => {
          sum.assign(add(sum, gradients[i]!));
        });
        const { loss, clipFraction, approximateKl, kl, entropy } = losses;
        return {
          loss,
          clipFraction,
          approximateKl,
          ...(kl && { kl }),
          ...(entropy && { entropy }),
          ...(sampledLogprobs && {
            sampleDifference: largestDifference(logprobs, sampledLogprobs, counts!),
          }),
        };
      },
      { name: `policy gradient ${rows} x ${length}` },
    ) as AnyPass;
  }
}

/** Tokens of a sample that are learnt from. */
function countOf({ weights, mask }: TrainingSample): number {
  let n = 0;
  for (let t = 0; t < weights.length; t++) if (weights[t] !== 0 && mask?.[t] !== 0) n++;
  return n;
}

/**
 * Inputs of a micro-batch. A pass means over its B · T positions, and the passes' means are added up, so weights come
 * times B · T.
 */
function feedsOf(
  part: MicroBatch,
  samples: readonly TrainingSample[],
  given: ReadonlySet<OptionalInput>,
  tokens: number,
): Record<string, Int32Array | Float32Array> {
  const size = part.shape.rows * part.shape.length;
  const weights = (i: number) => {
    const { weights: own, mask } = samples[i]!;
    return mask ? own.map((w, t) => w * mask[t]!) : own;
  };
  const counts = (i: number) => weights(i).map((w) => (w === 0 ? 0 : 1));
  return {
    ...sequenceFeeds(part, samples),
    advantages: spread(part, (i) => samples[i]!.advantages),
    weights: spread(part, weights, size),
    counts: spread(part, counts, size / tokens),
    ...Object.fromEntries([...given].map((name) => [name, spread(part, (i) => samples[i]![name]!)])),
  };
}
