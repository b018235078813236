/** The two models of the Tango recipe: their task, their words, and how they are warmed up. */
import path from 'node:path';
import { AnnealError, adamW, constantRate, Rng } from '../index.js';
import { llamaConfig, Transformer } from '../models/index.js';
import { parametersOf } from '../nn/index.js';
import {
  type LastLetterProblem,
  lastLetter,
  Policy,
  protocolTokenizer,
  type StepTask,
  solutionExample,
  type TextExample,
  verificationExample,
} from '../rl/index.js';
import { warmStart } from '../rl/warm-start.js';
import type { RunContext } from './recipe.js';
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

/** One of the two models with fresh weights. */
export function makeModel(config: TangoConfig, game: Game, player: 'generator' | 'verifier'): Transformer {
  const { layers, dim, heads } = config.model;
  const shape = llamaConfig({ vocabulary: game.tokenizer.size, dim, layers, heads, context: game.context });
  return new Transformer(shape, { rng: new Rng(config.seed).split(`weights of the ${player}`) });
}

/** Half of the examples are right and short; the others are as long as the task, and mostly wrong. */
function examplesOf(config: TangoConfig, game: Game, player: 'generator' | 'verifier'): TextExample[] {
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
export async function warmedUp(
  context: RunContext<TangoConfig, Game>,
  player: 'generator' | 'verifier',
): Promise<Transformer | undefined> {
  const { config, prepared: game, directory, record, signal, stream } = context;
  const model = makeModel(config, game, player);
  const { steps, batch } = config.warmStart;
  const { step } = await warmStart(model, game.tokenizer, examplesOf(config, game, player), {
    ...{ steps, batch, signal, config: record, seed: config.seed },
    directory: path.join(directory, `warm-start-${player}`),
    handleSignals: false,
    progress: stream ? { stream } : false,
  });
  return step < steps ? undefined : model;
}

/** A policy that begins where a warmed-up model stands; the model itself stays as it is. */
export function policyFrom(
  config: TangoConfig,
  game: Game,
  player: 'generator' | 'verifier',
  start: Transformer,
): Policy {
  const model = makeModel(config, game, player);
  const values = parametersOf(start);
  for (const [name, variable] of parametersOf(model)) variable.set(values.get(name)!.data);
  const { prompts, samples, lr } = config[player];
  return new Policy(model, {
    tokenizer: game.tokenizer,
    optimizer: adamW({ lr: constantRate(lr), weightDecay: 0, clipNorm: 1 }),
    slots: Math.max(64, prompts * samples),
  });
}
