export * from './bench/index.js';
export * from './judge/index.js';
export { type Candidate, candidates, type ExtractOptions } from './math/extract.js';
export type { MathOptions, Tolerance } from './math/options.js';
export { type MathVerifierOptions, mathVerifier } from './math/verify-math.js';
export { foldText, sameText, type TextOptions, textVerifier } from './text.js';
export {
  Budget,
  type Extracted,
  firstDecided,
  LimitReached,
  type Limits,
  type Outcome,
  type RuleVerifier,
  ruleVerifier,
  type Span,
  type Verdict,
  type Verifier,
  type VerifyItem,
} from './verdict.js';
