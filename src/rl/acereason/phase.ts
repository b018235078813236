import { AnnealError } from '../../core/errors.js';
import type { Json } from '../../data/batch-source.js';
import { type GrpoOptions, grpoPhase } from '../grpo.js';
import type { SamplingSettings } from '../grpo-batch.js';
import type { Phase, PhaseContext } from '../phases.js';
import type { Stateful } from '../reinforce.js';
import { combineRewards, type RewardContext, type RewardFunction } from '../reward.js';
import type { Prompt } from '../rollout.js';
import type { Sample } from '../sample.js';
import type { PassCount } from './curate.js';
import { Curriculum, type CurriculumStep } from './curriculum.js';
import { EntropyWatch, type EntropyWatchOptions } from './entropy-watch.js';
import type { AdjustableRate } from './rate.js';
import { mostSteps, type Stage } from './stages.js';

/** What a domain of a curriculum learns from. */
export interface CurriculumDomain {
  /** The pool: items of the curriculum are indices into it. */
  prompts: readonly Prompt[];
  /** A `RewardFunction` of its own prompts' examples: domains need not share a kind of example, hence a method. */
  reward(samples: readonly Sample[], context: RewardContext): ReturnType<RewardFunction>;
  /** Milliseconds that one call of the reward may take. Default 60,000. */
  rewardTimeoutMs?: number;
  /** Filters and stops; the temperature is the stage's. */
  sampling?: Omit<SamplingSettings, 'temperature'>;
  /** Whether a reward says "solved", for pass counts. Default: it is above 0. */
  isSolved?: (reward: number) => boolean;
}

/** Settings of `curriculumPhase`. */
export interface CurriculumPhaseOptions {
  /** Without KL, as in the paper, unless its own loss settings have one. */
  policy: GrpoOptions<never>['policy'];
  stages: readonly Stage[];
  /** By the names that stages use. */
  domains: Readonly<Record<string, CurriculumDomain>>;
  /** The policy's optimiser has its `schedule` as learning rate; stages set it. */
  rate: AdjustableRate;
  /** Of the order of prompts. */
  seed: number;
  /** Pass counts that are known before, by domain. */
  scores?: Readonly<Record<string, readonly (PassCount | null)[]>>;
  /** When entropy counts as collapsed or exploded; it is watched in each domain apart. */
  entropy?: EntropyWatchOptions;
  /**
   * Departures from strict on-policy GRPO, for studies. Defaults: one update a rollout, every group's tokens averaged by
   * themselves (`group-mean-token-mean`, equation 1 of the paper), groups without a signal kept.
   */
  grpo?: Pick<
    GrpoOptions<never>,
    'advantage' | 'normalisation' | 'aggregation' | 'updatesPerRollout' | 'miniBatches'
  > & { zeroVariance?: 'keep' | 'drop' };
}

/** A curriculum as a phase of `reinforce`, with what the run must be told beside it. */
export interface CurriculumPhase {
  phase: Phase;
  curriculum: Curriculum;
  /** For `reinforce`'s `state`: all that a resumed run needs. */
  state: Readonly<Record<string, Stateful>>;
  /** For `reinforce`'s `isOver`. */
  isOver: () => boolean;
  /** For `reinforce`'s `steps`. */
  mostSteps: number;
}

const hasSolved =
  ({ isSolved = (reward) => reward > 0 }: CurriculumDomain) =>
  (reward: number | null): boolean =>
    // Where a reward does not apply, nobody can tell: it counts as an attempt that failed.
    reward !== null && isSolved(reward);

/** Watches of several domains as one state. */
class Watches implements Stateful {
  readonly #watches: ReadonlyMap<string, EntropyWatch>;
  /** What each said last, so that a change is told once. */
  readonly #said = new Map<string, string>();

  constructor(domains: readonly string[], options: EntropyWatchOptions | undefined) {
    this.#watches = new Map(domains.map((name) => [name, new EntropyWatch(options)]));
  }

  /** Takes the entropy of an update, and writes a note when it has collapsed or exploded. */
  observe(domain: string, entropy: number | undefined, context: PhaseContext): Record<string, number> {
    if (entropy === undefined) return {};
    const { average, ratio, status } = this.#watches.get(domain)!.observe(entropy);
    if (status !== 'ok' && this.#said.get(domain) !== status)
      context.emit(
        `the entropy of ${domain} has ${status}: ${average.toPrecision(3)} nats, ${ratio.toPrecision(2)} of its beginning`,
      );
    this.#said.set(domain, status);
    return { entropyRatio: ratio };
  }

  save(): Json {
    return Object.fromEntries(
      [...this.#watches].map(([name, watch]) => [
        name,
        { watch: watch.save(), said: this.#said.get(name) ?? 'ok' },
      ]),
    );
  }

  restore(state: Json): void {
    for (const [name, watch] of this.#watches) {
      const own = (state as Record<string, { watch: Json; said: string }> | null)?.[name];
      if (!own)
        throw new AnnealError(`the entropy of "${name}" has no state; it was saved with other domains`);
      watch.restore(own.watch);
      this.#said.set(name, own.said);
    }
  }
}

/**
 * Counts how often the policy solves each prompt that a filter asks about, at the stage's own length and temperature
 * (its first, where it changes).
 * @returns prompts and tokens that it took
 */
async function scorePending(
  { policy, domains }: CurriculumPhaseOptions,
  curriculum: Curriculum,
  context: PhaseContext,
): Promise<{ prompts: number; tokens: number }> {
  const spent = { prompts: 0, tokens: 0 };
  for (;;) {
    const request = curriculum.pending();
    if (!request) return spent;
    const stage = curriculum.stage!;
    const domain = domains[request.domain]!;
    const { temperature } = stage;
    const { rewardTimeoutMs, sampling } = domain;
    const score = combineRewards(
      { reward: (...args) => domain.reward(...args) },
      rewardTimeoutMs === undefined ? {} : { timeoutMs: rewardTimeoutMs },
    );
    const passes: number[] = [];
    await policy.rollout(
      request.items.map((item) => domain.prompts[item]!),
      {
        ...sampling,
        temperature: typeof temperature === 'number' ? temperature : temperature.from,
        samples: request.of,
        maxTokens: stage.maxTokens,
        seed: context.seed('score', spent.prompts),
        signal: context.signal,
        onGroup: async (group) => {
          const { rewards } = await score(group, context);
          passes[group[0]!.group] = rewards.filter(hasSolved(domain)).length;
          spent.tokens += group.reduce((total, { tokens }) => total + tokens.length, 0);
        },
      },
    );
    context.signal.throwIfAborted();
    spent.prompts += request.items.length;
    curriculum.score(request, passes);
  }
}

/** A note at the beginning of a stage or an epoch. */
function announce(step: CurriculumStep, wasScored: boolean, total: number, context: PhaseContext): void {
  const { stage, epoch, pool, domain, maxTokens, groupSize, temperature, lr } = step;
  if (step.stageStep > 0 && !wasScored) return;
  const where = epoch === 0 ? `stage ${stage}` : `stage ${stage}, epoch ${epoch + 1}`;
  context.emit(
    `${where}: ${pool} of ${total} prompts of ${domain}, up to ${maxTokens} tokens, groups of ${groupSize}, temperature ${temperature}, lr ${lr}`,
  );
}

/**
 * Strict on-policy GRPO through the stages of a curriculum (AceReason-Nemotron, 2505.16400, sections 3.1 and 3.3): before a
 * stage or an epoch whose filter needs them, pass counts are measured with the policy as it is then; each step has the
 * stage's length, group size, temperature and learning rate; the pass counts of its rollouts become scores.
 *
 *     const rate = adjustableRate(1e-4);
 *     const policy = new Policy(model, { optimizer: adamW({ lr: rate.schedule }), … });
 *     const { phase, state, isOver, mostSteps } = curriculumPhase({ policy, rate, stages, domains, seed });
 *     await reinforce({ policies: { policy }, phases: { curriculum: phase }, state, isOver, steps: mostSteps, … });
 *
 * Metrics are those of `grpoPhase` with the step's `stage` (its index), `epoch`, `pool`, `maxTokens`, `groupSize` and
 * `temperature`, and `entropyRatio`, the average of the domain's entropy by that at its beginning; where prompts were scored,
 * `scored` and `scoringTokens` say what it took.
 * @throws AnnealError for impossible stages
 */
export function curriculumPhase(options: CurriculumPhaseOptions): CurriculumPhase {
  const { policy, stages, domains, rate, seed, scores, grpo = {} } = options;
  const pools = Object.fromEntries(
    Object.entries(domains).map(([name, { prompts }]) => [name, prompts.length]),
  );
  const curriculum = new Curriculum(stages, { pools, seed, ...(scores && { scores }) });
  const watches = new Watches(Object.keys(domains), options.entropy);
  const phase: Phase = async (context) => {
    const start = performance.now();
    const scored = await scorePending(options, curriculum, context);
    const scoring = performance.now() - start;
    const step = curriculum.current();
    if (!step) throw new AnnealError('the curriculum is over; pass its isOver to reinforce');
    const stage = curriculum.stage!;
    const domain = domains[step.domain]!;
    announce(step, scored.prompts > 0, pools[step.domain]!, context);
    rate.set(step.lr);
    const passes: number[] = [];
    const { rewardTimeoutMs, sampling } = domain;
    const learn = grpoPhase<unknown>({
      aggregation: 'group-mean-token-mean',
      ...(grpo as object),
      policy,
      prompts: () => step.items.map((item) => domain.prompts[item]!),
      reward: async (samples, rewardContext) => {
        const rewards = await domain.reward(samples, rewardContext);
        passes[samples[0]!.group] = rewards.filter(hasSolved(domain)).length;
        return rewards;
      },
      ...(rewardTimeoutMs !== undefined && { rewardTimeoutMs }),
      samples: step.groupSize,
      maxTokens: step.maxTokens,
      sampling: { ...sampling, temperature: step.temperature },
      ...(stage.overlong && { overlong: stage.overlong }),
      row: ({ group }) => ({ stage: step.stage, item: step.items[group]! }),
    });
    const { metrics, samples } = await learn(context);
    // Nothing may fail from here on: a step that is taken back would have updated the policy.
    const index = stages.indexOf(stage);
    curriculum.advance(step.items.map((_, i) => passes[i]!));
    return {
      metrics: {
        ...metrics,
        ...{ stage: index, epoch: step.epoch, pool: step.pool },
        ...{ maxTokens: step.maxTokens, groupSize: step.groupSize, temperature: step.temperature },
        ...watches.observe(step.domain, metrics.entropy, context),
        ...(scored.prompts > 0 && {
          scored: scored.prompts,
          scoringTokens: scored.tokens,
          'ms.score': scoring,
        }),
      },
      samples: samples!,
    };
  };
  return {
    phase,
    curriculum,
    state: { curriculum, entropy: watches },
    isOver: () => curriculum.stage === undefined,
    mostSteps: mostSteps(stages, pools),
  };
}
