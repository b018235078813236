// Verifiers, sandboxes, judges and detectors. Nothing here loads the engine; a judge that runs a local
// model does, on its first use.
export { type AnswerOptions, type AnswerType, answerTypeOf, answerVerifier } from './answer.js';
export * from './bench/index.js';
export {
  type ChoiceOptions,
  type Choices,
  choicesOf,
  choiceVerifier,
  lettersOf,
  stateVerifier,
} from './choice.js';
export * from './code/index.js';
export * from './hacking/index.js';
export * from './judge/index.js';
export { type Candidate, candidates, type ExtractOptions } from './math/extract.js';
export type { MathOptions, Tolerance } from './math/options.js';
export { type MathVerifierOptions, mathVerifier } from './math/verify-math.js';
export { finalNumber, numberVerifier } from './number.js';
export * from './rewards/index.js';
export {
  chooseSandboxes,
  EscapeBattery,
  type EscapeOptions,
  type EscapeResult,
  escapeAttempts,
  type Sandbox,
  type SandboxLimits,
  type SandboxName,
} from './sandbox/index.js';
export * from './service/index.js';
export { foldText, sameText, sameTexts, type TextOptions, textVerifier } from './text.js';
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
