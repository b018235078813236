/**
 * RISE (Liu et al. 2025, 2505.13445): one policy solves problems and rates its own fresh solutions, in one batch.
 *
 *     anneal run rise
 *     anneal run rise task.kind=chain-arithmetic seed=1
 *     anneal run rise ratio=0.125 selection=first 'baselines=["matched","plain"]'
 *
 * A small model learns both formats from examples, many of which are wrong. Then, from that one start,
 * RL without ratings, with as many trajectories, and RISE. Each part is a run of its own inside the run directory and
 * goes on where it stopped.
 */
import path from 'node:path';
import { countParameters } from '../nn/index.js';
import {
  chainArithmetic,
  evaluateRise,
  lastLetter,
  type Policy,
  protocolTokenizer,
  ratingExample,
  reinforce,
  risePhase,
  type StepTask,
  solutionExample,
  type TextExample,
} from '../rl/index.js';
import { type Quantity, type RunContext, type RunOutcome, recipe } from './recipe.js';
import { type ArmResult, type RiseArm, writeRiseReport } from './rise-report.js';
import { type RiseConfig, riseSettings } from './rise-settings.js';
import { makeSmallModel, policyFrom, type SmallModel, taughtModel } from './rl-start.js';
import { readWords } from './tango-players.js';

/** Seed of problems that nobody trains on. */
const heldOut = 7_777_777;

/** What the recipe plays with. */
interface Game {
  task: StepTask;
  /** Short problems, whose right solutions teach the steps. */
  shortTask: StepTask;
  small: SmallModel;
  /** Most tokens of a solution and of a rating. */
  solutionTokens: number;
  ratingTokens: number;
}

type Context = RunContext<RiseConfig, Game>;

/** Longest question, solution and rating of a problem, in tokens, with a little to spare. */
function lengthsOf({ task: { kind, count, modulus, letters } }: RiseConfig) {
  const [, n] = count;
  const digits = String(modulus - 1).length;
  const question = kind === 'last-letter' ? n * (letters[1] + 1) : digits + n * (1 + digits) + 6;
  // `<step>#12 c</step>`, or `<step>+3=7</step>`.
  const step = kind === 'last-letter' ? 5 + String(n).length : 4 + 2 * digits;
  const answer = kind === 'last-letter' ? n : digits;
  return { question, solution: n * step + answer + 10, rating: n * (5 + digits) + 6 };
}

async function makeGame(config: RiseConfig): Promise<Game> {
  const { task, warmStart, model, seed } = config;
  const words = task.kind === 'last-letter' ? await readWords() : [];
  const make = (count: readonly [number, number]): StepTask =>
    (task.kind === 'last-letter'
      ? lastLetter({ words, count, letters: task.letters, states: 'letter' })
      : chainArithmetic({ count, modulus: task.modulus })) as StepTask;
  const own = make(task.count);
  const { question, solution, rating } = lengthsOf(config);
  const context = question + solution + rating + 4;
  return {
    task: own,
    shortTask: make(warmStart.count),
    small: { shape: model, tokenizer: protocolTokenizer([own]), context, seed },
    ...{ solutionTokens: solution, ratingTokens: rating },
  };
}

/** Half of the examples are solutions, half ratings; of each, half are of short problems. */
function examplesOf({ warmStart, seed }: RiseConfig, { task, shortTask }: Game): TextExample[] {
  const { accuracy, restatedAccuracy, examples } = warmStart;
  // Problems of another seed are other problems: none of these comes again later.
  const own = seed + 1_000_003;
  return Array.from({ length: examples }, (_, i) => {
    const isShort = i % 4 < 2;
    const chosen = isShort ? shortTask : task;
    if (i % 2 === 0) return solutionExample(chosen, i, { seed: own, accuracy: isShort ? 1 : accuracy });
    // Solutions are wrong about as often as the policy's own will be.
    return ratingExample(chosen, i, {
      ...{ seed: own, accuracy: 0.5 + accuracy / 2, verdicts: true },
      restatedAccuracy: isShort ? 1 : restatedAccuracy,
    });
  });
}

/** The phase of an arm: RISE, or RL on solutions alone. */
function phaseOf({ config, prepared: game }: Context, arm: RiseArm, policy: Policy) {
  const { prompts, samples, ratio, ratings, selection, advantage, seed } = config;
  const { task, solutionTokens, ratingTokens } = game;
  return risePhase({
    player: { policy, prompts, samples, maxTokens: solutionTokens, flat: 'drop' },
    ...{ task, seed, ratings, ratingTokens, selection, advantage },
    ratio: arm === 'plain' ? 0 : ratio,
    matched: arm === 'matched',
  });
}

/** How well a policy solves, rates and votes on held-out problems with `k` voters. */
function measure({ config, prepared: game, signal }: Context, policy: Policy, k: number) {
  const { task, solutionTokens, ratingTokens } = game;
  const { problems, ratings } = config.evaluate;
  return evaluateRise({
    player: { policy, maxTokens: solutionTokens },
    ...{ task, k, ratings, ratingTokens, signal, seed: heldOut },
    problems: Array.from({ length: problems }, (_, i) => task.problem(heldOut, i)),
  });
}

/** Votes of every configured size. @returns undefined if the signal came first: they are quick, and cast anew */
async function castVotes(context: Context, policy: Policy): Promise<ArmResult['votes'] | undefined> {
  const { config, signal, print } = context;
  const votes: ArmResult['votes'] = {};
  try {
    for (const k of config.evaluate.votes) votes[k] = await measure(context, policy, k);
  } catch (error) {
    if (!signal.aborted) throw error;
    print('stopped while voting; the same command votes again\n');
    return undefined;
  }
  return votes;
}

/** Trains an arm and lets its last policy vote. @returns undefined if the signal came first */
async function runArm(
  context: Context,
  arm: RiseArm,
  policy: Policy,
): Promise<{ step: number; result: ArmResult | undefined }> {
  const { config, directory, record, signal, stream, tensorboard } = context;
  const [first] = config.evaluate.votes;
  const { reason, step } = await reinforce({
    policies: { policy },
    phases: { [arm]: phaseOf(context, arm, policy) },
    steps: config.updates,
    seed: config.seed,
    evaluate: { every: config.evaluate.every, run: () => measure(context, policy, first!) },
    save: { every: 20, keep: 1 },
    figures: ['accuracy', 'verifyAccuracy', 'entropy'],
    directory: path.join(directory, arm),
    config: record,
    ...{ signal, tensorBoard: tensorboard, handleSignals: false },
    progress: stream ? { stream } : false,
  });
  const votes = reason === 'finished' ? await castVotes(context, policy) : undefined;
  return { step, result: votes && { arm, votes } };
}

function derive(config: RiseConfig, { small }: Game): Quantity[] {
  const { prompts, samples, ratio, ratings } = config;
  const rated = Math.round(ratio * prompts) * ratings;
  return [
    { name: 'parameters', value: countParameters(makeSmallModel(small)), unit: 'parameters' },
    { name: 'context', value: small.context, unit: 'tokens' },
    { name: 'solutionsPerUpdate', value: prompts * samples, unit: '' },
    { name: 'ratingsPerUpdate', value: rated, unit: '' },
  ];
}

const titles = {
  matched: 'RL on solutions alone, with as many trajectories',
  plain: 'RL on solutions alone, with as many problems',
  rise: 'RISE: solutions and ratings of them in one batch',
} as const satisfies Record<RiseArm, string>;

async function run(context: Context): Promise<RunOutcome> {
  const { config, prepared: game, directory, print } = context;
  const { prompts, samples, ratio, lr } = config;
  const stopped = (step = 0): RunOutcome => ({ status: 'stopped', step, summary: {} });
  print('1. The model learns both formats from examples\n');
  const start = await taughtModel(context, game.small, examplesOf(config, game), config.warmStart);
  if (!start) return stopped();
  const results: ArmResult[] = [];
  let step = 0;
  const slots = Math.max(64, Math.ceil(prompts * samples * (1 + ratio)));
  for (const [i, arm] of [...new Set<RiseArm>([...config.baselines, 'rise'])].entries()) {
    print(`${i + 2}. ${titles[arm]}\n`);
    const policy = policyFrom(game.small, start, { lr, slots });
    const { step: steps, result } = await runArm(context, arm, policy);
    await policy.dispose();
    step += steps;
    if (!result) return stopped(step);
    results.push(result);
  }
  const { text, summary } = await writeRiseReport(directory, config, results);
  print(`\n${text}`);
  return { status: 'finished', step, summary };
}

export const rise = recipe({
  name: 'rise',
  summary:
    'RISE: a policy solves problems and verifies its own solutions in one batch, beside RL on solutions alone',
  config: riseSettings,
  prepare: makeGame,
  derive,
  run,
});
