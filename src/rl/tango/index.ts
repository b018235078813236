export {
  type GeneratorAdvantages,
  generatorAdvantages,
  type StepRewardSets,
  stepRewardsOf,
} from './generator-advantages.js';
export { responseMetrics, verdictMetrics } from './metrics.js';
export type { TangoOptions, TangoPlayer, TangoPolicy, TangoTask } from './options.js';
export * from './protocol.js';
export type { Response } from './responses.js';
export * from './scripted.js';
export { type TangoPhases, tangoPhases } from './tango.js';
export { type VerifierReward, verifierReward } from './verifier-phase.js';
export type { Verification } from './verify-responses.js';
