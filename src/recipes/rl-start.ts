/** The small models of recipes of reinforcement learning: made, taught a format, turned into policies. */
import path from 'node:path';
import { adamW, constantRate, Rng, type Schedule } from '../index.js';
import { llamaConfig, Transformer } from '../models/index.js';
import { parametersOf } from '../nn/index.js';
import { Policy, type protocolTokenizer, type TextExample } from '../rl/index.js';
import { warmStart } from '../rl/warm-start.js';
import type { RunContext } from './recipe.js';

/** What makes a small model. */
export interface SmallModel {
  shape: { layers: number; dim: number; heads: number };
  tokenizer: ReturnType<typeof protocolTokenizer>;
  context: number;
  /** Of its weights, and of the order of its examples. */
  seed: number;
  /** Which of a recipe's several models: it has weights and a warm start of its own. */
  player?: string;
}

/** What a warm start needs to know of a run. */
export type StartContext = Pick<RunContext<unknown, unknown>, 'directory' | 'record' | 'signal' | 'stream'>;

/** A model with fresh weights. */
export function makeSmallModel(small: SmallModel): Transformer {
  const { shape, tokenizer, context, seed, player = 'policy' } = small;
  const config = llamaConfig({ vocabulary: tokenizer.size, context, ...shape });
  return new Transformer(config, { rng: new Rng(seed).split(`weights of the ${player}`) });
}

/**
 * Teaches a fresh model its formats, as a run of its own in the folder warm-start/ (or warm-start-PLAYER/) of the recipe's run directory.
 * @returns undefined if the signal came first
 */
export async function taughtModel(
  { directory, record, signal, stream }: StartContext,
  small: SmallModel,
  examples: readonly TextExample[],
  { steps, batch }: { steps: number; batch: number },
): Promise<Transformer | undefined> {
  const model = makeSmallModel(small);
  const folder = small.player === undefined ? 'warm-start' : `warm-start-${small.player}`;
  const { step } = await warmStart(model, small.tokenizer, examples, {
    ...{ steps, batch, signal, config: record, seed: small.seed },
    directory: path.join(directory, folder),
    handleSignals: false,
    progress: stream ? { stream } : false,
  });
  return step < steps ? undefined : model;
}

/** A policy that begins where a taught model stands; the model itself stays as it is. */
export function policyFrom(
  small: SmallModel,
  start: Transformer,
  options: { lr: number | Schedule; slots: number },
): Policy {
  const model = makeSmallModel(small);
  const values = parametersOf(start);
  for (const [name, variable] of parametersOf(model)) variable.set(values.get(name)!.data);
  const { lr, slots } = options;
  return new Policy(model, {
    tokenizer: small.tokenizer,
    optimizer: adamW({ lr: typeof lr === 'number' ? constantRate(lr) : lr, weightDecay: 0, clipNorm: 1 }),
    slots,
  });
}
