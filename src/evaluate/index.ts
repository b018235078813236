export type { AnswerRecord, ScoredAnswer } from './answers.js';
export {
  argmax,
  type ChoicePredictions,
  type ChoiceScores,
  type EncodeChoicesOptions,
  type EncodedChoices,
  encodeChoices,
  predictChoices,
  scoreChoices,
} from './choice.js';
export {
  type EvaluationResult,
  evaluate,
  evaluateTask,
  loadTask,
  type TaskResult,
  type TaskSpec,
} from './evaluate.js';
export { type JsonItem, readItems } from './items.js';
export { type BootstrapOptions, bootstrap, type Interval, passAtK, wilson } from './metrics.js';
export { type EvaluatedModel, modelScorer } from './model.js';
export type { EvaluateOptions, Metric, Metrics } from './options.js';
export { type PerplexityOptions, type PerplexityResult, perplexity, slidingWindows } from './perplexity.js';
export type { Scorer } from './scorer.js';
export type {
  AnswerScore,
  ChoiceScore,
  PromptOptions,
  Task,
  TaskKind,
  TaskOption,
  TextScore,
} from './task.js';
export {
  gsm8k,
  multipleChoice,
  type NamedText,
  questions,
  tasks,
  textPerplexity,
  verifiers,
} from './tasks/index.js';
export {
  contains,
  exactMatch,
  finalNumber,
  type NormalizeOptions,
  normalizeText,
  sameNumber,
  type Verdict,
  type Verify,
  verifyWith,
} from './verify.js';
