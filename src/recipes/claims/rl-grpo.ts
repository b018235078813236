import {
  type GrpoOptions,
  grpoPhase,
  type Phase,
  type Policy,
  parseSolution,
  perSample,
  type StepTask,
  shortPrompts,
} from '../../rl/index.js';
import type { World } from './rl-world.js';

/** GRPO on a generated task, rewarded for the answer alone; step n has the same problems in every arm. */
export function grpoOn<P>(
  world: World,
  policy: Policy,
  task: StepTask<P>,
  options: { seed: number; maxTokens: number } & Pick<GrpoOptions<P>, 'updatesPerRollout'>,
): Phase {
  const { tokenizer } = world;
  const { seed, ...rest } = options;
  const { prompts, samples } = world.config;
  // Phases are told the step within their own kind, so that arms of one seed draw the same problems.
  return (context) =>
    grpoPhase<P>({
      ...{ policy, samples, zeroVariance: 'drop', ...rest },
      sampling: { stopTokens: [tokenizer.endOfText!] },
      prompts: () =>
        Array.from({ length: prompts }, (_, i) => {
          const example = task.problem(100 + seed, context.phaseStep * (1 << 16) + i);
          return { prompt: tokenizer.encode(shortPrompts.generator(task.question(example))), example };
        }),
      reward: perSample(({ text, example }) => {
        const { answer } = parseSolution(text);
        return answer !== undefined && task.isCorrect(example, answer) ? 1 : 0;
      }),
    })(context).then(({ metrics, ...report }) => {
      // Tokens of the step, for budgets.
      const tokens = (metrics.length ?? 0) * prompts * samples;
      return { ...report, metrics: { ...metrics, tokens } };
    });
}
