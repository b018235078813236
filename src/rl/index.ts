export {
  type KlEstimator,
  klTerms,
  type PolicyLosses,
  type PolicyLossInputs,
  type PolicyLossOptions,
  policyLoss,
} from './losses.js';
export * from './schedules.js';
export * from './token-weights.js';
