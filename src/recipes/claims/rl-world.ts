/** What all arms of the claims about reinforcement learning share: tasks, tokenizer, and a warm start for each seed. */
import path from 'node:path';
import { AnnealError, adamW, constantRate, Rng } from '../../index.js';
import { llamaConfig, Transformer } from '../../models/index.js';
import { parametersOf } from '../../nn/index.js';
import {
  chainArithmetic,
  type LastLetterProblem,
  Policy,
  type PolicyOptions,
  protocolTokenizer,
  type Range,
  type StepTask,
  solutionExample,
  stackPrograms,
  type TextExample,
} from '../../rl/index.js';
import { warmStart } from '../../rl/warm-start.js';
import { programOutput } from './rl-programs.js';
import type { RlConfig } from './rl-settings.js';
import {
  habitCopy,
  habitDrill,
  habitLengths,
  habitRamble,
  habitRating,
  habitTask,
  habitVerification,
  habitWords,
} from './rl-task.js';

/** Longest problem of the last-letter task, in words. */
export const longest = 4;

/** Which formats a model is taught before reinforcement. */
export type Start = 'letters' | 'weak verifier' | 'rambling' | 'domains';

const chains = { count: [2, 3] as const, modulus: 3 };

/** Domains in one model, and most tokens of a response: arithmetic, programs to be run, programs to be found. */
export const domains = {
  math: { task: chainArithmetic(chains) as StepTask<never>, maxTokens: 34 },
  output: { task: programOutput(chains) as StepTask<never>, maxTokens: 34 },
  synthesis: {
    task: stackPrograms({ length: [1, 2], inputs: [0, 5], shown: 2, hidden: 3 }) as StepTask<never>,
    maxTokens: 60,
  },
} as const;
export type Domain = keyof typeof domains;

/** Tasks, tokenizer and warm starts. */
export class World {
  readonly tokenizer: ReturnType<typeof protocolTokenizer>;
  readonly lengths = habitLengths(longest);
  readonly #starts = new Map<string, Promise<Transformer | undefined>>();

  private readonly words = habitWords(4000);

  constructor(readonly config: RlConfig) {
    const tasks = Object.values(domains).map(({ task }) => task);
    this.tokenizer = protocolTokenizer([this.letters([1, longest]), ...tasks]);
  }

  /** The last-letter task with problems of so many words. */
  letters(count: Range): StepTask<LastLetterProblem> {
    return habitTask(this.words, count, longest);
  }

  get context(): number {
    const { question, solution, verification } = this.lengths;
    return question + solution + verification + 4;
  }

  model(seed: number): Transformer {
    const { layers, dim, heads } = this.config.model;
    const shape = llamaConfig({ vocabulary: this.tokenizer.size, dim, layers, heads, context: this.context });
    return new Transformer(shape, { rng: new Rng(seed).split('claims/rl') });
  }

  /** Updates of an arm, by the share of the work that is wanted; never none. */
  scaled(updates: number): number {
    return Math.max(1, Math.round(updates * this.config.effort));
  }

  /**
   * The model that all arms of a seed begin with. It is trained once and lies in the run directory.
   * @returns undefined if the signal came first
   */
  start(kind: Start, seed: number, directory: string, signal: AbortSignal): Promise<Transformer | undefined> {
    const key = `${kind}-${seed}`;
    let found = this.#starts.get(key);
    if (!found) {
      found = this.#warmUp(kind, seed, path.join(directory, 'warm-start', key), signal);
      this.#starts.set(key, found);
    }
    return found;
  }

  async #warmUp(
    kind: Start,
    seed: number,
    directory: string,
    signal: AbortSignal,
  ): Promise<Transformer | undefined> {
    const model = this.model(seed);
    const { steps, batch } = this.config.warmStart;
    const examples = this.#examplesOf(kind, seed);
    const { step } = await warmStart(model, this.tokenizer, examples, {
      ...{ steps, batch, seed, signal, directory },
      config: JSON.parse(JSON.stringify({ ...this.config.warmStart, ...this.config.model, kind, seed })),
      handleSignals: false,
      progress: false,
    });
    return step < steps ? undefined : model;
  }

  #examplesOf(kind: Start, seed: number): TextExample[] {
    const { verifierAccuracy, weakVerifierAccuracy } = this.config.warmStart;
    if (kind === 'letters') return this.#letterExamples(seed, verifierAccuracy);
    if (kind === 'weak verifier') return this.#letterExamples(seed, weakVerifierAccuracy);
    return kind === 'domains' ? this.#domainExamples(seed) : this.#ramblingExamples(seed);
  }

  /** Solutions that are longer than they need to be, and drills of copying. */
  #ramblingExamples(own: number): TextExample[] {
    const { examples, accuracy } = this.config.warmStart;
    // Longer ones would not fit into the context.
    const task = this.letters([1, longest - 1]);
    const seed = own + 1_000_003;
    return Array.from({ length: examples }, (_, i) =>
      i % 4 === 3 ? habitCopy(i, longest, seed) : habitRamble(task, i, { seed, accuracy }),
    );
  }

  /** As many solutions, verifications and ratings, and two drills for each; problems of this seed never come again. */
  #letterExamples(own: number, verifierAccuracy: number): TextExample[] {
    const { examples, accuracy, copies } = this.config.warmStart;
    const task = this.letters([1, longest]);
    const seed = own + 1_000_003;
    // About as many right as wrong steps: what a step says must be no hint at what it should say.
    const judged = { seed, accuracy: 0.6, verifierAccuracy };
    return Array.from({ length: examples }, (_, i) => {
      if (i % 5 === 4 && copies) return habitCopy(i, longest, seed);
      if (i % 5 >= 3) return habitDrill(i, longest, seed);
      if (i % 5 === 0) return solutionExample(task, i, { seed, accuracy });
      return i % 5 === 1 ? habitVerification(task, i, judged) : habitRating(task, i, judged);
    });
  }

  #domainExamples(own: number): TextExample[] {
    const { examples, domainAccuracy: accuracy } = this.config.warmStart;
    const seed = own + 1_000_003;
    const tasks = Object.values(domains).map(({ task }) => task);
    return Array.from({ length: examples }, (_, i) =>
      solutionExample(tasks[i % tasks.length]!, i, { seed, accuracy }),
    );
  }

  /** A policy that begins where a model stands; the model itself stays as it is. */
  policy(
    start: Transformer,
    options: { lr?: number; slots?: number } & Pick<PolicyOptions, 'loss'> = {},
  ): Policy {
    const { lr = this.config.lr, slots = 192, loss } = options;
    const model = this.model(0);
    const values = parametersOf(start);
    for (const [name, variable] of parametersOf(model)) {
      const value = values.get(name);
      if (!value) throw new AnnealError(`claims/rl: the warm start has no parameter "${name}"`);
      variable.set(value.data);
    }
    return new Policy(model, {
      tokenizer: this.tokenizer,
      optimizer: adamW({ lr: constantRate(lr), weightDecay: 0, clipNorm: 1 }),
      slots,
      ...(loss && { loss }),
    });
  }
}
