export { type AdamWOptions, adamW } from './adamw.js';
export {
  clipByGlobalNorm,
  globalNorm,
  Optimizer,
  type OptimizerOptions,
  type StepInfo,
} from './optimizer.js';
export {
  constantRate,
  cosine,
  linear,
  rateAt,
  type Schedule,
  warmup,
  warmupStableDecay,
} from './schedule.js';
export { type SgdOptions, sgd } from './sgd.js';
