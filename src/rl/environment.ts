import { AnnealError } from '../core/errors.js';
import { Rng } from '../core/random.js';
import type { Policy } from './policy.js';
import type { Prompt, RolloutOptions } from './rollout.js';
import type { Sample } from './sample.js';

/** What an environment is told after each turn of the policy. */
export interface Turn {
  /** 0 at the first. */
  index: number;
  /** What the policy said in this turn. */
  text: string;
  tokens: Int32Array;
  finishReason: 'stop' | 'length';
}

/** What an environment writes before the policy's next turn. */
export interface Observation {
  /** Token ids, appended as they are: nothing is ever tokenised again. */
  tokens: Int32Array;
  /** The same as text, for rewards and tables. */
  text?: string;
}

/** One episode of an environment; it may keep what state it likes. */
export interface Session {
  /** Answers a turn; null ends the episode. */
  respond(turn: Turn): Observation | null | Promise<Observation | null>;
}

/** Opens an episode for an example. Sessions run side by side; a run repeats itself if they answer by turn alone. */
export type Environment<E> = (example: E) => Session;

/** Settings of `episodes`. */
export interface EpisodeOptions {
  /** Turns of the policy, at most. */
  maxTurns: number;
  /** Tokens of one turn, at most. Default: what the episode has left. */
  turnTokens?: number;
}

/** An episode under way. */
class Episode<E> {
  private readonly tokens: number[] = [];
  private readonly logprobs: number[] = [];
  private readonly sampledLogprobs: number[] = [];
  private readonly mask: number[] = [];
  private text = '';
  finishReason: Sample['finishReason'] | undefined;

  constructor(
    readonly group: number,
    private readonly start: Prompt<E>,
    private readonly session: Session,
    private readonly maxTokens: number,
  ) {}

  get left(): number {
    return this.maxTokens - this.tokens.length;
  }

  /** What the policy reads next: the prompt and everything since, by id. */
  prompt(): Prompt<E> {
    const { prompt, example } = this.start;
    const all = new Int32Array(prompt.length + this.tokens.length);
    all.set(prompt);
    all.set(this.tokens, prompt.length);
    return { prompt: all, example };
  }

  /** Takes a turn of the policy and asks the environment; sets `finishReason` where the episode is over. */
  async take(sample: Sample<E>, index: number, maxTurns: number): Promise<void> {
    const length = Math.min(sample.tokens.length, this.left);
    for (let t = 0; t < length; t++) {
      this.push(sample.tokens[t]!, sample.logprobs[t]!, sample.sampledLogprobs[t]!, 1);
    }
    this.text += sample.text;
    const isCut = length < sample.tokens.length;
    const finishReason = isCut ? 'length' : sample.finishReason;
    if (finishReason === 'cancelled' || this.left === 0) {
      this.finishReason = finishReason;
      return;
    }
    const { text } = sample;
    const answer = await this.session.respond({ index, text, tokens: sample.tokens, finishReason });
    if (answer === null) this.finishReason = finishReason;
    // An observation without room for a token of the policy after it would teach nothing.
    else if (index + 1 === maxTurns || answer.tokens.length >= this.left) this.finishReason = 'length';
    else {
      for (const token of answer.tokens) this.push(token, 0, 0, 0);
      this.text += answer.text ?? '';
    }
  }

  private push(token: number, logprob: number, sampledLogprob: number, mask: number): void {
    this.tokens.push(token);
    this.logprobs.push(logprob);
    this.sampledLogprobs.push(sampledLogprob);
    this.mask.push(mask);
  }

  sample(): Sample<E> {
    const { group, text, finishReason } = this;
    const { prompt, example } = this.start;
    return {
      ...{ group, example, prompt, text, finishReason: finishReason! },
      tokens: Int32Array.from(this.tokens),
      logprobs: Float32Array.from(this.logprobs),
      sampledLogprobs: Float32Array.from(this.sampledLogprobs),
      mask: Uint8Array.from(this.mask),
    };
  }
}

function open<E>(
  environment: Environment<E>,
  prompts: readonly Prompt<E>[],
  { samples, maxTokens }: RolloutOptions<E>,
): Episode<E>[] {
  return prompts.flatMap((prompt, group) =>
    Array.from({ length: samples }, () => new Episode(group, prompt, environment(prompt.example), maxTokens)),
  );
}

/**
 * A rollout of several turns, for `GrpoOptions.rollout`: the policy speaks, the environment answers, and so on. The
 * environment's tokens are part of the sample with mask 0: they are read, not learnt. Ids stay as they were sampled.
 * `maxTokens` bounds everything after the prompt.
 * @throws AnnealError if `maxTurns` is no positive integer; what a session throws
 */
export function episodes<E>(
  policy: Pick<Policy, 'rollout'>,
  environment: Environment<E>,
  { maxTurns, turnTokens = Number.POSITIVE_INFINITY }: EpisodeOptions,
): (prompts: readonly Prompt<E>[], options: RolloutOptions<E>) => Promise<Sample<E>[]> {
  if (!Number.isInteger(maxTurns) || maxTurns < 1)
    throw new AnnealError(`episodes: maxTurns is ${maxTurns}; pass a positive integer`);
  return async (prompts, { samples, seed, onGroup, ...options }) => {
    const all = open(environment, prompts, { samples, seed, ...options });
    const seeds = new Rng(seed, 'episodes');
    const reported = new Set<number>();
    const scoring: Promise<void>[] = [];
    for (let turn = 0; turn < maxTurns; turn++) {
      const active = all.filter(({ finishReason }) => finishReason === undefined);
      if (active.length === 0) break;
      const said = await policy.rollout(
        active.map((episode) => episode.prompt()),
        {
          ...options,
          samples: 1,
          maxTokens: Math.min(turnTokens, Math.max(...active.map(({ left }) => left))),
          seed: Math.floor(seeds.split(turn).next() * 2 ** 53),
        },
      );
      await Promise.all(active.map((episode, i) => episode.take(said[i]!, turn, maxTurns)));
      prompts.forEach((_, group) => {
        const own = all.slice(group * samples, (group + 1) * samples);
        if (reported.has(group) || own.some(({ finishReason }) => finishReason === undefined)) return;
        reported.add(group);
        if (own.some(({ finishReason }) => finishReason === 'cancelled')) return;
        const scored = (async () => onGroup?.(own.map((episode) => episode.sample())))();
        // It is heard at the end; until then a failure has nobody.
        scored.catch(() => undefined);
        scoring.push(scored);
      });
    }
    await Promise.all(scoring);
    return all.map((episode) => episode.sample());
  };
}
