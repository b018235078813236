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
export * from './kl-reward.js';
export * from './losses.js';
export * from './overlong.js';
export * from './reward.js';
export type * from './sample.js';
export * from './schedules.js';
export * from './step-advantages.js';
export * from './token-weights.js';
export { type ZeroVariancePolicy, zeroVarianceGroups } from './zero-variance.js';
