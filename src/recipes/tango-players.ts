/** The two models of the Tango recipe: their task, their words, and how they are warmed up. */
import { AnnealError } from '../index.js';
import type { Transformer } from '../models/index.js';
import {
  type LastLetterProblem,
  lastLetter,
  type Policy,
  protocolTokenizer,
  type StepTask,
  solutionExample,
  type TextExample,
  verificationExample,
} from '../rl/index.js';
import { policyFrom, type SmallModel, type StartContext, taughtModel } from './rl-start.js';
import type { TangoConfig } from './tango-settings.js';

/** Longest question, solution and verification of a problem of `words` words of `letters` letters, in tokens. */
const lengthsOf = ({ task }: TangoConfig) => {
  const [, words] = task.words;
  const [, letters] = task.letters;
  const question = words * (letters + 1);
  const stated = task.states === 'letter' ? 3 + String(words).length : 2 + words;
  return { question, solution: words * (stated + 2) + words + 8, verification: words * (words + 4) + 6 };
};

/** What the recipe plays with. */
export interface Game {
  /** What the generator learns. */
  task: StepTask<LastLetterProblem>;
  /** What the verifier learns from. */
  verifierTask: StepTask<LastLetterProblem>;
  /** Short problems, whose right solutions teach the format. */
  shortTask: StepTask<LastLetterProblem>;
  tokenizer: ReturnType<typeof protocolTokenizer>;
  /** Most tokens of a solution and of a verification. */
  solutionTokens: number;
  verificationTokens: number;
  context: number;
}

/**
 * Common English words.
 * @throws AnnealError if the package that ships them is not installed
 */
export async function readWords(): Promise<readonly string[]> {
  try {
    return (await import('@nkzw/safe-word-list')).default;
  } catch {
    throw new AnnealError('the words are missing: npm install @nkzw/safe-word-list');
  }
}

/** The tasks, their tokenizer and the room that their texts need. */
export async function makeGame(config: TangoConfig): Promise<Game> {
  const words = await readWords();
  const { letters, states } = config.task;
  const tasks = [config.task.words, config.verifier.words, config.warmStart.words].map((count) =>
    lastLetter({ words, count, letters, states }),
  );
  const [task, verifierTask, shortTask] = tasks as [Game['task'], Game['task'], Game['task']];
  const { question, solution, verification } = lengthsOf(config);
  return {
    ...{ task, verifierTask, shortTask },
    tokenizer: protocolTokenizer([task]),
    solutionTokens: solution,
    verificationTokens: verification,
    context: question + solution + verification + 2,
  };
}

/** The players of the game. */
export type Player = 'generator' | 'verifier';

/** What makes one of the two models. */
export const smallModel = ({ model, seed }: TangoConfig, game: Game, player: Player): SmallModel => ({
  ...{ shape: model, tokenizer: game.tokenizer, context: game.context, seed, player },
});

/** Half of the examples are right and short; the others are as long as the task, and mostly wrong. */
function examplesOf(config: TangoConfig, game: Game, player: Player): TextExample[] {
  const { accuracy, verifierAccuracy, examples } = config.warmStart;
  // Problems of other seeds are other problems: none of these comes again later.
  const seed = config.seed + 1_000_003;
  return Array.from({ length: examples }, (_, i) => {
    const isShort = i % 2 === 0;
    const task = isShort ? game.shortTask : game.task;
    return player === 'generator'
      ? solutionExample(task, i, { seed, accuracy: isShort ? 1 : accuracy })
      : verificationExample(task, i, {
          seed,
          accuracy: 0.5 + 0.5 * accuracy,
          verifierAccuracy: isShort ? 1 : verifierAccuracy,
        });
  });
}

/**
 * Trains a model on its format, in a run directory of its own inside the recipe's.
 * @returns undefined if the signal came first
 */
export const warmedUp = (
  config: TangoConfig,
  game: Game,
  player: Player,
  context: StartContext,
): Promise<Transformer | undefined> => {
  const { steps, verifierSteps, batch } = config.warmStart;
  const budget = { steps: player === 'verifier' ? verifierSteps : steps, batch };
  return taughtModel(context, smallModel(config, game, player), examplesOf(config, game, player), budget);
};

/** A player's policy, which begins where its warmed-up model stands. */
export function playerFrom(config: TangoConfig, game: Game, player: Player, start: Transformer): Policy {
  const { prompts, samples, lr } = config[player];
  return policyFrom(smallModel(config, game, player), start, { lr, slots: Math.max(64, prompts * samples) });
}
