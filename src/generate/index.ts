export type { Generation } from './generation.js';
export { Generator, type GeneratorOptions, type GeneratorStats } from './generator.js';
export type { GenerativeModel } from './model.js';
export type {
  Completion,
  FinishReason,
  GeneratedToken,
  GenerationRequest,
  SamplingOptions,
} from './request.js';
export { type SampledToken, Sampler } from './sampler.js';
export { type ResolvedSampling, SamplingState } from './sampling-state.js';
export { type ScoredSequence, type ScoreOptions, score, scoreTop } from './score.js';
