export { evaluateRatings, evaluateRise, type RiseEvaluation } from './evaluate.js';
export { type RatingExampleOptions, ratingExample } from './examples.js';
export { fullRisePrompts, type RisePrompts, shortRisePrompts } from './prompts.js';
export { formatScore, riseScores, solutionReward, statedScore, verificationReward } from './rewards.js';
export { type RiseOptions, ratingMetrics, risePhase } from './rise.js';
export { type SelectionOptions, selectForVerification } from './selection.js';
export type { RatedSolution, Rating, RiseTask } from './solve.js';
export { type Candidate as VoteCandidate, selfWeightedVote } from './voting.js';
