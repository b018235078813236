import { formatScore, riseScores } from './rewards.js';

/** Builds the texts that one policy is asked with: to solve, and to verify what it wrote. */
export interface RisePrompts {
  solve(question: string): string;
  verify(question: string, response: string): string;
}

/** For a small model that learns the formats from examples; a tag tells the two tasks apart. */
export const shortRisePrompts: RisePrompts = {
  solve: (question) => `${question}\n`,
  verify: (question, response) => `${question}\n${response}\n<rate>`,
};

const { correct, incorrect, noAnswer } = riseScores;

/** For pretrained models; the criteria are those of the reward. The response stands between markers of its own. */
export const fullRisePrompts: RisePrompts = {
  solve: (question) =>
    `Reason step by step and put the final answer into \\boxed{}.\n\nQuestion: ${question}\n\nResponse: `,
  verify: (question, response) =>
    [
      'Rate a response to a question. The rating is',
      `${formatScore(noAnswer)} if the response has no final answer in \\boxed{},`,
      `${formatScore(correct)} if its boxed final answer is right,`,
      `${formatScore(incorrect)} if its boxed final answer is wrong.`,
      '',
      '--- question begins ---',
      question,
      '--- question ends ---',
      '--- response begins ---',
      response,
      '--- response ends ---',
      '',
      'Analyse the response briefly, then put the rating into \\boxed{}.',
      '',
      'Rating: ',
    ].join('\n'),
};
