export {
  difficultyOf,
  filterByLength,
  type MajorityVote,
  majorityVote,
  type PassCount,
  type PassFilter,
  type ProblemFlaw,
  passesFilter,
  problemFlaws,
} from './curate.js';
export { Curriculum, type CurriculumOptions, type CurriculumStep, type ScoreRequest } from './curriculum.js';
export { type EntropyState, EntropyWatch, type EntropyWatchOptions } from './entropy-watch.js';
export { decontaminate, deduplicate, ngramsOf, type Overlap } from './overlap.js';
export {
  type CurriculumDomain,
  type CurriculumPhase,
  type CurriculumPhaseOptions,
  curriculumPhase,
} from './phase.js';
export { type AdjustableRate, adjustableRate } from './rate.js';
export {
  type AceReasonOptions,
  type AceReasonStage,
  aceReasonStages,
  mostSteps,
  type PerEpoch,
  type Stage,
} from './stages.js';
