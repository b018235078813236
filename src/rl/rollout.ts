import { AnnealError } from '../core/errors.js';
import { Rng } from '../core/random.js';
import type { Generation } from '../generate/generation.js';
import type { Generator } from '../generate/generator.js';
import type { SamplingOptions } from '../generate/request.js';
import type { Sample } from './sample.js';

/** A prompt, and what it was made of. */
export interface Prompt<E = unknown> {
  readonly prompt: Int32Array;
  readonly example: E;
}

/** Options of a rollout. */
export interface RolloutOptions<E = unknown>
  extends Pick<SamplingOptions, 'temperature' | 'topP' | 'topK' | 'minP'> {
  /** Completions of each prompt. */
  samples: number;
  /** Most tokens of a completion. */
  maxTokens: number;
  /** Seed of the whole rollout; that of a sample is a function of (seed, prompt index, sample index). */
  seed: number;
  /** A completion ends with one of these tokens, which is the last of its tokens and no part of its text. */
  stopTokens?: readonly number[];
  /** A completion ends before one of these strings. */
  stop?: readonly string[];
  /** Ends what still runs; those samples have the finish reason `cancelled`. */
  signal?: AbortSignal;
  /**
   * Gets the samples of each prompt as soon as all of them are finished, while others are still being sampled; not those of
   * a prompt with a cancelled sample. The rollout waits for what it returns, and fails with it.
   */
  onGroup?: (samples: readonly Sample<E>[]) => void | Promise<void>;
}

/** Seed of one sample: 53 bits of Philox at (seed, prompt, sample). */
export const sampleSeed = (seed: number, prompt: number, sample: number): number =>
  new Rng(seed, 'rollout').split(prompt).split(sample).next() * 2 ** 53;

/**
 * Samples completions of all prompts; of each prompt, the keys and values are computed once.
 * @returns by prompt, then by sample
 * @throws AnnealError if a prompt or an option is impossible; what `onGroup` throws
 */
export async function rollOut<E>(
  generator: Generator,
  prompts: readonly Prompt<E>[],
  options: RolloutOptions<E>,
): Promise<Sample<E>[]> {
  const { samples, seed, signal, onGroup, ...request } = options;
  if (!Number.isInteger(samples) || samples < 1)
    throw new AnnealError(`rollout: samples is ${samples}; it must be a positive whole number`);
  const running: Generation[] = [];
  const cancel = () => {
    for (const generation of running) generation.cancel();
  };
  const finish = async (group: number, generations: readonly Generation[]): Promise<Sample<E>[]> => {
    const completions = await Promise.all(generations.map(({ result }) => result));
    const finished = completions.map((completion) => ({ group, ...prompts[group]!, ...completion }));
    if (finished.every(({ finishReason }) => finishReason !== 'cancelled')) await onGroup?.(finished);
    return finished;
  };
  // One listener: a signal that is given to every request would have hundreds.
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    prompts.forEach(({ prompt }, group) => {
      for (let i = 0; i < samples; i++)
        running.push(generator.submit({ ...request, prompt, seed: sampleSeed(seed, group, i) }));
    });
    if (signal?.aborted) cancel();
    const groups = prompts.map((_, group) =>
      finish(group, running.slice(group * samples, (group + 1) * samples)),
    );
    return (await Promise.all(groups)).flat();
  } catch (error) {
    // Nothing of this rollout may go on into what comes next.
    cancel();
    throw error;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
