/** Verifiers as reward functions for reinforcement learning. */
export {
  type AnswerRewardOptions,
  answerReward,
  choiceReward,
  mathReward,
  textReward,
  verifierReward,
} from './answer.js';
export { type CodeRewardOptions, codeReward, type ScoredProgram, visibleTests } from './code.js';
export {
  type FieldOf,
  type RewardExample,
  type RewardInput,
  rewardOf,
  type SampleReward,
  type Scored,
} from './sample.js';
