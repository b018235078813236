export { type AdamWOptions, adamW } from './adamw.js';
export { groups, type ParameterGroup } from './groups.js';
export { type MuonOptions, type MuonScale, muon } from './muon.js';
export {
  clipByGlobalNorm,
  globalNorm,
  Optimizer,
  type OptimizerOptions,
  type StepInfo,
} from './optimizer.js';
export { polarExpress } from './polar.js';
export {
  type CompositionOptions,
  optimalComposition,
  type PolarPreset,
  type Polynomial,
  polarPresets,
} from './polar-coefficients.js';
export type { PolarOptions } from './polar-plan.js';
export {
  constantRate,
  cosine,
  linear,
  rateAt,
  type Schedule,
  scaled,
  warmup,
  warmupStableDecay,
} from './schedule.js';
export { type SgdOptions, sgd } from './sgd.js';
