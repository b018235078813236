export * from './acereason/index.js';
export {
  broadcastAdvantages,
  discountedReturns,
  type GroupAdvantageOptions,
  gae,
  groupAdvantages,
  outcomeTokenRewards,
  type ReturnOptions,
  reinforcePlusPlus,
  rlooAdvantages,
  whiten,
} from './advantages.js';
export * from './at-k.js';
export * from './class-weights.js';
export * from './classification.js';
export {
  type Environment,
  type EpisodeOptions,
  episodes,
  type Observation,
  type Session,
  type Turn,
} from './environment.js';
export * from './evaluate-policy.js';
export { type AdvantageKind, type GrpoOptions, grpoPhase } from './grpo.js';
export type { Rollout, SamplingSettings, ScoredBatch } from './grpo-batch.js';
export * from './kl-reward.js';
export { type LearningPolicy, type LearnOptions, learnOnPolicy } from './learn.js';
export * from './losses.js';
export * from './overlong.js';
export * from './phases.js';
export {
  Policy,
  type PolicyOptions,
} from './policy.js';
export type { PolicyModel } from './policy-pass.js';
export { NonFiniteUpdateError, type TrainingSample, type UpdateReport } from './policy-update.js';
export {
  type ReinforceOptions,
  type ReinforceResult,
  reinforce,
  type Stateful,
  type StoredPolicy,
} from './reinforce.js';
export * from './reward.js';
export * from './rise/index.js';
export { type Prompt, type RolloutOptions, sampleSeed } from './rollout.js';
export type * from './sample.js';
export * from './schedules.js';
export * from './step-advantages.js';
export * from './tango/index.js';
export * from './tasks/index.js';
export { tokenAt, tokenEnds } from './token-ends.js';
export * from './token-weights.js';
export { type ZeroVariancePolicy, zeroVarianceGroups } from './zero-variance.js';
