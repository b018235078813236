export { fullRisePrompts, type RisePrompts, shortRisePrompts } from './prompts.js';
export { formatScore, riseScores, solutionReward, statedScore, verificationReward } from './rewards.js';
export { type SelectionOptions, selectForVerification } from './selection.js';
export { type Candidate as VoteCandidate, selfWeightedVote } from './voting.js';
