import { AnnealError } from '../../core/errors.js';
import type { OverlongPolicy } from '../overlong.js';
import type { PassFilter } from './curate.js';

/** A value that stays, or goes evenly from the first epoch of a stage to the last. */
export type PerEpoch = number | { readonly from: number; readonly to: number };

/** One stage of a curriculum, as data. */
export interface Stage {
  readonly name: string;
  /** Which pool of prompts, and which reward. */
  readonly domain: string;
  /** Longest completion, in tokens. */
  readonly maxTokens: number;
  /**
   * `all` (default), or only prompts that were solved as often as this says when they were last scored: "hard" is
   * `{ atMost: 6, of: 16 }`.
   */
  readonly prompts?: 'all' | PassFilter;
  /** Scores the prompts anew when the stage begins, even if they have scores. Default false. */
  readonly rescore?: boolean;
  /** Samples a prompt. */
  readonly groupSize: PerEpoch;
  readonly temperature: PerEpoch;
  readonly lr: number;
  /** Prompts a step. */
  readonly batch: number;
  /** What happens to completions that reach `maxTokens`. Default `train`: they are wrong, and learnt from. */
  readonly overlong?: OverlongPolicy;
  /** How long it lasts. */
  readonly length: { readonly steps: number } | { readonly epochs: number };
  /**
   * After each epoch, prompts that were not solved as often as this says leave the stage. `fresh` scores them with the
   * policy as it is then, as AceReason does; `rollouts` (default) takes the samples of the epoch itself, for free.
   */
  readonly epochFilter?: PassFilter & { readonly scores?: 'rollouts' | 'fresh' };
}

const isPositive = (value: number) => Number.isInteger(value) && value >= 1;

function problemOf(stage: Stage): string | undefined {
  const { maxTokens, batch, lr, length } = stage;
  const sizes = typeof stage.groupSize === 'number' ? [stage.groupSize] : Object.values(stage.groupSize);
  const heats =
    typeof stage.temperature === 'number' ? [stage.temperature] : Object.values(stage.temperature);
  const duration = 'steps' in length ? length.steps : length.epochs;
  if (!isPositive(maxTokens)) return `maxTokens is ${maxTokens}`;
  if (!isPositive(batch)) return `batch is ${batch}`;
  if (!isPositive(duration)) return `its length is ${duration}`;
  if (!sizes.every((size) => isPositive(size) && size > 1)) return `groupSize is ${sizes.join(' to ')}`;
  if (!heats.every((heat) => heat > 0 && Number.isFinite(heat)))
    return `temperature is ${heats.join(' to ')}`;
  if (!(lr > 0 && Number.isFinite(lr))) return `lr is ${lr}`;
  for (const filter of [stage.prompts, stage.epochFilter]) {
    if (filter === undefined || filter === 'all') continue;
    const { atLeast = 0, atMost = filter.of, of } = filter;
    if (!(isPositive(of) && atLeast >= 0 && atLeast <= atMost && atMost <= of))
      return `a filter is ${atLeast} to ${atMost} of ${of}`;
  }
  return undefined;
}

/** @throws AnnealError that names the stage and what is impossible about it */
export function checkStages(stages: readonly Stage[], domains: readonly string[]): void {
  if (stages.length === 0) throw new AnnealError('a curriculum needs at least one stage');
  for (const stage of stages) {
    const problem = problemOf(stage);
    if (problem) throw new AnnealError(`stage "${stage.name}": ${problem}; pass a positive number that fits`);
    if (!domains.includes(stage.domain)) {
      throw new AnnealError(
        `stage "${stage.name}": there are no prompts of domain "${stage.domain}", only of ${domains.join(', ')}`,
      );
    }
  }
}

/**
 * Most steps that stages can take. They are fewer where a filter leaves prompts out of a stage whose length is in epochs,
 * or all of them.
 * @param pools number of prompts of each domain
 */
export function mostSteps(stages: readonly Stage[], pools: Readonly<Record<string, number>>): number {
  const stepsOf = ({ length, domain, batch }: Stage) =>
    'steps' in length ? length.steps : length.epochs * Math.max(1, Math.floor((pools[domain] ?? 0) / batch));
  return stages.reduce((total, stage) => total + stepsOf(stage), 0);
}

/** A value in an epoch, of so many. */
export function valueIn(value: PerEpoch, epoch: number, epochs: number): number {
  if (typeof value === 'number') return value;
  const x = epochs > 1 ? Math.min(1, epoch / (epochs - 1)) : 1;
  return value.from + (value.to - value.from) * x;
}

/** Settings of `aceReasonStages`. */
export interface AceReasonOptions {
  /** The paper's model: it decides which problems the first code stage leaves out. Default 7b. */
  model?: '7b' | '14b';
  /** Length of each stage; the paper does not state them. */
  lengths: Readonly<Record<AceReasonStage, Stage['length']>>;
  /** Longest completion of a stage from the paper's, for models with shorter ones: `(tokens) => tokens / 128`. */
  scaleTokens?: (tokens: number) => number;
  /** Temperature of the mathematics stages; not stated in the paper. Default 1. */
  mathTemperature?: number;
  /** Prompts a step. Default 128. */
  batch?: number;
  /** Which problems stay after an epoch of the second code stage; the limit is not stated. Default: not all of 8 solved. */
  codeFilter?: PassFilter;
}

/** Names of AceReason's stages, in order. */
export type AceReasonStage = 'math-1' | 'math-2' | 'math-3' | 'code-1' | 'code-2' | 'math-4';

const hard = { atMost: 6, of: 16 };

/**
 * The curriculum of AceReason-Nemotron (2505.16400, section 3.3): mathematics with growing length, then on hard problems
 * only; then code; then hard mathematics at full length. Strictly on-policy, without KL or entropy bonus.
 */
export function aceReasonStages(options: AceReasonOptions): Stage[] {
  const { model = '7b', lengths, scaleTokens = (n) => n, mathTemperature = 1, batch = 128 } = options;
  const { codeFilter = { atMost: 7, of: 8 } } = options;
  const stage = (
    name: AceReasonStage,
    k: number,
    rest: Omit<Stage, 'name' | 'maxTokens' | 'batch' | 'length'>,
  ) => ({
    name,
    maxTokens: Math.max(1, Math.round(scaleTokens(k * 1024))),
    batch,
    length: lengths[name],
    ...rest,
  });
  const math = { domain: 'math', temperature: mathTemperature, lr: 1e-6, groupSize: 16 };
  const code = { domain: 'code', lr: 5e-6 };
  // Difficulty is failures of 8: at most 5 are 3 passes or more, at most 7 are 1 or more.
  const easier = { atLeast: model === '7b' ? 3 : 1, of: 8 };
  return [
    stage('math-1', 8, { ...math, groupSize: 8 }),
    stage('math-2', 16, math),
    stage('math-3', 24, { ...math, prompts: hard, rescore: true }),
    stage('code-1', 24, {
      ...code,
      groupSize: 8,
      temperature: 0.6,
      prompts: easier,
    }),
    stage('code-2', 32, {
      ...code,
      groupSize: { from: 8, to: 16 },
      temperature: { from: 0.6, to: 1 },
      epochFilter: { ...codeFilter, scores: 'fresh' },
    }),
    stage('math-4', 32, { ...math, prompts: hard, rescore: true }),
  ];
}
