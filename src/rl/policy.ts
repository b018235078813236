import { allocate } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { Variable } from '../core/variable.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { Generator, type GeneratorStats } from '../generate/generator.js';
import { adaptersOf, trainableParameters, withoutAdapters } from '../nn/lora.js';
import type { Optimizer } from '../optim/optimizer.js';
import type { ModelFiles } from '../train/options.js';
import type { PolicyLossOptions } from './losses.js';
import { microBatchesOf, type Sequence, sequenceFeeds } from './micro-batches.js';
import { PassCache } from './pass-cache.js';
import { logprobPass, type PolicyModel } from './policy-pass.js';
import { type PolicyState, readPolicy, writePolicy } from './policy-state.js';
import { PolicyUpdater, type TrainingSample, type UpdateReport } from './policy-update.js';
import { type Prompt, type RolloutOptions, rollOut } from './rollout.js';
import type { Sample } from './sample.js';

/** Settings of a policy. */
export interface PolicyOptions {
  /** For texts and stop strings of samples. Without it they have tokens only. */
  tokenizer?: Tokenizer;
  optimizer: Optimizer;
  /** What is trained, by name. Default: every parameter that is not frozen; with an adapter, only the adapter's. */
  parameters?: ReadonlyMap<string, Variable>;
  /**
   * What a KL is measured against: a copy of the weights at the beginning (`initial`), or the model without its adapter,
   * at no memory (`adapter-off`). Default `none`.
   */
  reference?: 'none' | 'initial' | 'adapter-off';
  /** Sequences that are sampled together; their KV cache takes memory. */
  slots: number;
  /** Most tokens of a prompt and its completion. Default and upper limit: the model's context. */
  capacity?: number;
  /** Default: `policyLoss`'s own. */
  loss?: PolicyLossOptions;
  /**
   * Most tokens that a pass over given sequences computes at once, prompts and padding included; more is cut into
   * micro-batches. Default 2048, fewer where their logits would have more than 2^25 entries.
   */
  microBatchTokens?: number;
  /**
   * `shared` computes each prompt once for all of its completions; `rows` computes whole rows, the same up to
   * rounding. Default: shared where the model can (`sharesPrompts`).
   */
  layout?: 'shared' | 'rows';
  /** How the weights lie in a checkpoint. Default: the trained ones, by name, in model.safetensors. */
  files?: ModelFiles;
}

/** Logits that exist at a time, in elements. */
const mostLogits = 2 ** 25;
const defaultMicroBatch = 2048;
/** Prompt tokens that are read at once. */
const promptTokens = 2048;
const smallestMicroBatch = 128;

/**
 * A language model that learns by reinforcement: it samples, says how likely given tokens are, and is updated. Sampler
 * and trainer share the model's variables, so what was sampled has the log-probabilities that the trainer computes.
 *
 * Everything is a function of the weights, the optimiser's state and the seeds that are passed: no call leaves random state
 * behind. Calls do not overlap, except that rewards may be computed while a rollout runs.
 */
export class Policy {
  readonly model: PolicyModel;
  /** What is trained, by name. */
  readonly parameters: ReadonlyMap<string, Variable>;
  readonly optimizer: Optimizer;
  readonly tokenizer: Tokenizer | undefined;
  /** Settings of its loss. */
  readonly loss: PolicyLossOptions;
  readonly #reference: 'none' | 'initial' | 'adapter-off';
  /** The trained parameters at the beginning. */
  readonly #initial: ReadonlyMap<string, Variable> | undefined;
  readonly #generator: Generator;
  readonly #updater: PolicyUpdater;
  readonly #passes = new PassCache();
  readonly #layout: 'shared' | 'rows';
  readonly #microBatchTokens: number;
  readonly #files: ModelFiles | undefined;
  #updates = 0;
  #rollouts = 0;

  /** @throws AnnealError if an option is impossible. Adapters must have been applied before. */
  constructor(model: PolicyModel, options: PolicyOptions) {
    const { optimizer, tokenizer, reference = 'none', slots, capacity, loss = {}, files } = options;
    this.model = model;
    this.optimizer = optimizer;
    this.tokenizer = tokenizer;
    this.loss = loss;
    this.parameters = options.parameters ?? trainableParameters(model);
    if (this.parameters.size === 0)
      throw new AnnealError('the policy has nothing to train: every parameter of the model is frozen');
    this.#reference = reference;
    if (reference === 'adapter-off' && adaptersOf(model).size === 0) {
      throw new AnnealError(
        "reference: 'adapter-off' needs a model with an adapter; call applyLora first, or use 'initial'",
      );
    }
    if (reference === 'initial') this.#initial = copyOf(this.parameters);
    this.#layout = layoutOf(model, options.layout);
    this.#microBatchTokens = microBatchTokensOf(model, options.microBatchTokens);
    this.#files = files;
    this.#generator = new Generator(model, {
      slots,
      // A resumed run must sample the same bits although the sampler has compiled other passes so far.
      batchInvariant: 'history',
      // Nobody waits for the first token: all prompts are read before anything is decoded.
      chunk: promptTokens,
      // Rewards get their turn between two steps.
      blocking: true,
      ...(capacity !== undefined && { capacity }),
      ...(tokenizer && { tokenizer }),
    });
    const [layout, microBatchTokens] = [this.#layout, this.#microBatchTokens];
    this.#updater = new PolicyUpdater(model, this.parameters, { optimizer, loss, layout, microBatchTokens });
  }

  /** Updates so far: the step of schedules, restored with the weights. */
  get updates(): number {
    return this.#updates;
  }

  /** What the sampler has done. */
  get sampling(): GeneratorStats {
    return this.#generator.stats();
  }

  /**
   * Samples completions of prompts: by prompt, then by sample. The same weights and seed give the same samples.
   * @throws AnnealError if a prompt or an option is impossible; what `onGroup` throws
   */
  async rollout<E>(prompts: readonly Prompt<E>[], options: RolloutOptions<E>): Promise<Sample<E>[]> {
    this.#rollouts++;
    try {
      return await rollOut(this.#generator, prompts, options);
    } finally {
      this.#rollouts--;
    }
  }

  /**
   * Log-probabilities of the completions' tokens under the present weights, or under the reference.
   * @param options `temperature` divides the logits; default 1
   * @throws AnnealError if there is no reference, or a token or a length is impossible
   */
  async logprobs(
    sequences: readonly Sequence[],
    options: { reference?: boolean; temperature?: number } = {},
  ): Promise<Float32Array[]> {
    const { reference = false, temperature = 1 } = options;
    checkTemperature(temperature);
    checkSequences(sequences, this.model);
    if (!reference) return this.#score(sequences, temperature, false);
    if (this.#reference === 'none')
      throw new AnnealError(
        "the policy has no reference; make it with reference: 'initial' or 'adapter-off'",
      );
    if (this.#reference === 'adapter-off') return this.#score(sequences, temperature, true);
    this.#refuseDuringRollout('log-probabilities of the initial weights');
    exchange(this.parameters, this.#initial!);
    try {
      return await this.#score(sequences, temperature, false);
    } finally {
      exchange(this.parameters, this.#initial!);
    }
  }

  /**
   * One step of the optimiser on the whole batch.
   * @param options `temperature`: that of the samples. The distribution that is trained is the one they came from.
   * @throws AnnealError if the samples do not fit; `NonFiniteUpdateError` if loss or gradient are not finite: then nothing has changed
   */
  async update(
    batch: readonly TrainingSample[],
    options: { temperature?: number } = {},
  ): Promise<UpdateReport> {
    const { temperature = 1 } = options;
    checkTemperature(temperature);
    checkSequences(batch, this.model);
    this.#refuseDuringRollout('an update');
    const report = await this.#updater.update(batch, temperature, this.#updates);
    this.#updates++;
    return report;
  }

  /** Writes weights, optimiser, reference and counters into a folder that exists. No other call may be under way. */
  async save(folder: string): Promise<void> {
    await this.#updater.prepare();
    await writePolicy(folder, this.#state(), { updates: this.#updates });
  }

  /** Reads what `save` wrote: the policy goes on bit for bit. @throws AnnealError if it does not fit. */
  async restore(folder: string): Promise<void> {
    this.#refuseDuringRollout('restore');
    await this.#updater.prepare();
    this.#updates = (await readPolicy(folder, this.#state())).updates;
  }

  /** Ends rollouts under way and frees what was compiled. */
  async dispose(): Promise<void> {
    await this.#generator.close({ cancel: true });
    this.#updater.dispose();
    this.#passes.dispose();
  }

  async #score(
    sequences: readonly Sequence[],
    temperature: number,
    isAdapterOff: boolean,
  ): Promise<Float32Array[]> {
    const results = sequences.map(({ tokens }) => new Float32Array(tokens.length));
    const [layout, tokens] = [this.#layout, this.#microBatchTokens];
    const { context } = this.model.config;
    for (const part of microBatchesOf(sequences, { layout, tokens, context })) {
      const key = [...Object.values(part.shape), temperature, isAdapterOff].join();
      const pass = this.#passes.get(key, () =>
        logprobPass(this.model, part.shape, temperature, (body) =>
          isAdapterOff ? withoutAdapters(this.model, body) : body(),
        ),
      );
      const { logprobs } = await pass(sequenceFeeds(part, sequences));
      part.members.forEach((member, row) => {
        const start = row * part.shape.length;
        const result = results[member]!;
        result.set((logprobs!.data as Float32Array).subarray(start, start + result.length));
      });
    }
    return results;
  }

  #state(): PolicyState {
    const { parameters, optimizer } = this;
    return { parameters, optimizer, reference: this.#initial, files: this.#files };
  }

  #refuseDuringRollout(what: string): void {
    if (this.#rollouts > 0)
      throw new AnnealError(`${what} while a rollout runs would change its weights; await the rollout first`);
  }
}

function copyOf(parameters: ReadonlyMap<string, Variable>): Map<string, Variable> {
  return new Map(
    [...parameters].map(([name, { data, dtype, shape, size }]) => {
      const copy = allocate(dtype, size);
      copy.set(data as never);
      return [name, new Variable(copy, dtype, shape, { name: `${name}.initial`, trainable: false })];
    }),
  );
}

/** Exchanges values, without a copy. Twice is as if nothing had happened. */
function exchange(a: ReadonlyMap<string, Variable>, b: ReadonlyMap<string, Variable>): void {
  for (const [name, one] of a) {
    const other = b.get(name)!;
    [one.data, other.data] = [other.data, one.data];
  }
}

function layoutOf(model: PolicyModel, wanted: PolicyOptions['layout']): 'shared' | 'rows' {
  const canShare = model.sharesPrompts ?? false;
  if (wanted === 'shared' && !canShare)
    throw new AnnealError("layout: 'shared' needs a model that can share prompts; use 'rows'");
  return wanted ?? (canShare ? 'shared' : 'rows');
}

function microBatchTokensOf(model: PolicyModel, wanted: number | undefined): number {
  if (wanted !== undefined && !(Number.isInteger(wanted) && wanted >= 1))
    throw new AnnealError(`microBatchTokens is ${wanted}; it must be a positive whole number`);
  const fitting = Math.floor(mostLogits / model.config.vocabulary);
  return wanted ?? Math.max(smallestMicroBatch, Math.min(defaultMicroBatch, fitting));
}

function checkTemperature(temperature: number): void {
  if (temperature > 0 && Number.isFinite(temperature)) return;
  throw new AnnealError(`temperature is ${temperature}; log-probabilities need one above 0`);
}

function checkSequences(sequences: readonly Sequence[], model: PolicyModel): void {
  const { vocabulary, context } = model.config;
  sequences.forEach(({ prompt, tokens }, i) => {
    if (prompt.length === 0) throw new AnnealError(`the prompt of sample ${i} is empty; it needs a token`);
    if (prompt.length + tokens.length > context) {
      throw new AnnealError(
        `sample ${i} has ${prompt.length} + ${tokens.length} tokens, the model's context ${context}; cut it`,
      );
    }
    for (const part of [prompt, tokens]) {
      for (let t = 0; t < part.length; t++) {
        const token = part[t]!;
        if (token >= 0 && token < vocabulary) continue;
        throw new AnnealError(`sample ${i} holds the token ${token}; ids go from 0 to ${vocabulary - 1}`);
      }
    }
  });
}
