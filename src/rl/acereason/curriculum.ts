import { AnnealError } from '../../core/errors.js';
import { Rng } from '../../core/random.js';
import type { Json } from '../../data/batch-source.js';
import { type PassCount, type PassFilter, passesFilter } from './curate.js';
import { checkStages, type Stage, valueIn } from './stages.js';

/** Settings of the next step: what a stage comes to in its present epoch. */
export interface CurriculumStep {
  readonly stage: string;
  readonly domain: string;
  /** From 0, within the stage. */
  readonly epoch: number;
  readonly maxTokens: number;
  readonly groupSize: number;
  readonly temperature: number;
  readonly lr: number;
  /** Indices of the prompts in their domain's pool. */
  readonly items: readonly number[];
  /** Prompts that the epoch chooses from. */
  readonly pool: number;
  /** Steps of the stage done before. */
  readonly stageStep: number;
}

/** Prompts that must be scored before a curriculum can go on. */
export interface ScoreRequest {
  readonly domain: string;
  readonly items: readonly number[];
  /** Attempts that the filter counts. */
  readonly of: number;
}

/** Settings of a curriculum. */
export interface CurriculumOptions {
  /** Number of prompts of each domain. */
  pools: Readonly<Record<string, number>>;
  seed: number;
  /** Scores that are known before the first stage, by domain, in the order of the pool; null where there is none. */
  scores?: Readonly<Record<string, readonly (PassCount | null)[]>>;
}

/** Everything that moves. */
interface Place {
  stage: number;
  epoch: number;
  /** Steps done in this epoch, and in this stage. */
  step: number;
  stageSteps: number;
  /** Prompts that the epoch's filter chooses from: at first the whole domain, then those of the epoch before. */
  candidates: number[];
  /** Those that it chose; null while it waits for scores. */
  pool: number[] | null;
  /** Epochs that the stage will have, known from its first pool. */
  epochs: number;
  /** Items whose present scores are too old for the filter that comes next. */
  stale: number[];
}

type Scores = Map<number, PassCount>;

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/**
 * Runs through stages: which prompts a step has, and with what settings. A stage's prompts come in a new random order
 * each epoch; what does not fill a batch is left out. All of its state is in `save`, so that a run which resumes inside
 * any epoch goes on with the same prompts.
 *
 *     for (;;) {
 *       const request = curriculum.pending();           // prompts to score before a filter can be applied
 *       if (request) curriculum.score(request, await countPasses(request));
 *       const step = curriculum.current();
 *       if (!step) break;
 *       curriculum.advance(await train(step));          // passes of each prompt of the step
 *     }
 */
export class Curriculum {
  readonly stages: readonly Stage[];
  readonly #pools: Readonly<Record<string, number>>;
  readonly #rng: Rng;
  readonly #scores = new Map<string, Scores>();
  #place: Place;

  /** @throws AnnealError for impossible stages or scores */
  constructor(stages: readonly Stage[], { pools, seed, scores = {} }: CurriculumOptions) {
    checkStages(stages, Object.keys(pools));
    this.stages = stages;
    this.#pools = pools;
    this.#rng = new Rng(seed, 'curriculum');
    for (const [domain, counts] of Object.entries(scores)) {
      if (counts.length !== pools[domain])
        throw new AnnealError(
          `curriculum: ${counts.length} scores for ${pools[domain] ?? 0} prompts of "${domain}"; pass one each, or null`,
        );
      counts.forEach((count, item) => {
        if (count) this.#scoresOf(domain).set(item, count);
      });
    }
    this.#place = this.#begin(0);
    this.#enter();
  }

  /** The present stage; undefined after the last. */
  get stage(): Stage | undefined {
    return this.stages[this.#place.stage];
  }

  /** Prompts that must be scored now; undefined if `current` can be asked. */
  pending(): ScoreRequest | undefined {
    const stage = this.stages[this.#place.stage];
    if (!stage || this.#place.pool) return undefined;
    const items = this.#unscored(stage);
    return { domain: stage.domain, items, of: this.#filter(stage)!.of };
  }

  /** Takes the number of passes of each item of `pending()`, in its order, of as many attempts as it asked for. */
  score(request: ScoreRequest, passes: readonly number[]): void {
    if (passes.length !== request.items.length)
      throw new AnnealError(
        `curriculum: ${passes.length} pass counts for ${request.items.length} prompts; pass one each`,
      );
    const scores = this.#scoresOf(request.domain);
    const scored = new Set(request.items);
    request.items.forEach((item, i) => {
      scores.set(item, { passes: passes[i]!, of: request.of });
    });
    this.#place.stale = this.#place.stale.filter((item) => !scored.has(item));
    this.#enter();
  }

  /** The next step; undefined after the last stage. @throws AnnealError while scores are pending */
  current(): CurriculumStep | undefined {
    const { stage: index, epoch, step, pool, epochs, stageSteps } = this.#place;
    const stage = this.stages[index];
    if (!stage) return undefined;
    if (!pool)
      throw new AnnealError(
        `curriculum: stage "${stage.name}" waits for scores; call score(pending(), passes) first`,
      );
    const order = this.#rng.split(index).split(epoch).permutation(pool.length);
    const size = Math.min(stage.batch, pool.length);
    const items = Array.from(order.subarray(step * size, (step + 1) * size), (i) => pool[i]!);
    return {
      stage: stage.name,
      domain: stage.domain,
      epoch,
      maxTokens: stage.maxTokens,
      groupSize: Math.round(valueIn(stage.groupSize, epoch, epochs)),
      temperature: valueIn(stage.temperature, epoch, epochs),
      lr: stage.lr,
      items,
      pool: pool.length,
      stageStep: stageSteps,
    };
  }

  /**
   * Goes on to the next step.
   * @param passes of each of the step's items, of its group size; they become the items' scores
   */
  advance(passes?: readonly number[]): void {
    const step = this.current();
    if (!step) throw new AnnealError('curriculum: it is over; current() is undefined');
    if (passes) {
      if (passes.length !== step.items.length)
        throw new AnnealError(
          `curriculum: ${passes.length} pass counts for ${step.items.length} prompts; pass one each`,
        );
      const scores = this.#scoresOf(step.domain);
      step.items.forEach((item, i) => {
        scores.set(item, { passes: passes[i]!, of: step.groupSize });
      });
    }
    this.#place.step++;
    this.#place.stageSteps++;
    this.#turn();
  }

  /** What is known about each prompt of a domain. */
  scores(domain: string): readonly (PassCount | null)[] {
    const scores = this.#scoresOf(domain);
    return range(this.#pools[domain] ?? 0).map((item) => scores.get(item) ?? null);
  }

  save(): Json {
    const { pool, stale, candidates, ...place } = this.#place;
    const scores = [...this.#scores].map(([domain, counts]): [string, Json] => [
      domain,
      [...counts].map(([item, { passes, of }]) => [item, passes, of]),
    ]);
    return {
      ...place,
      candidates: [...candidates],
      pool: pool && [...pool],
      stale: [...stale],
      scores: Object.fromEntries(scores),
    };
  }

  /** @throws AnnealError if the state is not one that `save` gave for these stages */
  restore(state: Json): void {
    const { scores, ...place } = (state ?? {}) as unknown as Place & {
      scores?: Record<string, [number, number, number][]>;
    };
    if (!scores || !Number.isInteger(place.stage) || place.stage > this.stages.length)
      throw new AnnealError('curriculum: this is no state of it; it was saved with other stages');
    const { candidates, pool, stale } = place;
    this.#place = {
      ...place,
      candidates: [...candidates],
      pool: pool && [...pool],
      stale: [...stale],
    };
    this.#scores.clear();
    for (const [domain, counts] of Object.entries(scores))
      this.#scores.set(domain, new Map(counts.map(([item, passes, of]) => [item, { passes, of }])));
  }

  #scoresOf(domain: string): Scores {
    let scores = this.#scores.get(domain);
    if (!scores) {
      scores = new Map();
      this.#scores.set(domain, scores);
    }
    return scores;
  }

  /** The filter that decides about the present epoch's prompts, if there is one. */
  #filter(stage: Stage): PassFilter | undefined {
    if (this.#place.epoch > 0) return stage.epochFilter;
    return stage.prompts === undefined || stage.prompts === 'all' ? undefined : stage.prompts;
  }

  /** Prompts whose score the filter needs and does not have, or has from an older policy. */
  #unscored(stage: Stage): number[] {
    const { candidates, stale, epoch } = this.#place;
    const old = new Set(stale);
    const scores = this.#scoresOf(stage.domain);
    // What an epoch left out of its batches stays without a score, and in the pool, unless scores are to be fresh.
    const isNeeded = epoch === 0 || stage.epochFilter?.scores === 'fresh';
    return candidates.filter((item) => old.has(item) || (isNeeded && !scores.has(item)));
  }

  #begin(index: number): Place {
    const stage = this.stages[index];
    const candidates = stage ? range(this.#pools[stage.domain]!) : [];
    const stale = stage?.rescore ? [...candidates] : [];
    return { stage: index, epoch: 0, step: 0, stageSteps: 0, candidates, pool: null, epochs: 0, stale };
  }

  /** Sets the pool of an epoch as soon as everything about it is known. */
  #enter(): void {
    const place = this.#place;
    const stage = this.stages[place.stage];
    if (!stage || place.pool) return;
    const filter = this.#filter(stage);
    if (filter && this.#unscored(stage).length > 0) return;
    const scores = this.#scoresOf(stage.domain);
    const pool = place.candidates.filter((item) => {
      const count = scores.get(item);
      return !filter || !count || passesFilter(count, filter);
    });
    if (pool.length > 0) {
      place.pool = pool;
      if (place.epoch === 0) place.epochs = this.#epochsOf(stage, pool.length);
      return;
    }
    if (place.epoch === 0)
      throw new AnnealError(
        `stage "${stage.name}": no prompt of "${stage.domain}" is left after its filter; widen it`,
      );
    // Everything is learnt: the rest of the stage has nothing to teach.
    this.#place = this.#begin(place.stage + 1);
    this.#enter();
  }

  #epochsOf(stage: Stage, pool: number): number {
    if ('epochs' in stage.length) return stage.length.epochs;
    const perEpoch = Math.max(1, Math.floor(pool / stage.batch));
    return Math.ceil(stage.length.steps / perEpoch);
  }

  /** Ends an epoch or a stage where it is due. */
  #turn(): void {
    const place = this.#place;
    const stage = this.stages[place.stage]!;
    const pool = place.pool!;
    const isEpochOver = place.step >= Math.max(1, Math.floor(pool.length / stage.batch));
    const { length } = stage;
    const isOver =
      'steps' in length ? place.stageSteps >= length.steps : isEpochOver && place.epoch + 1 >= length.epochs;
    if (isOver) this.#place = this.#begin(place.stage + 1);
    else if (isEpochOver) {
      const isFresh = stage.epochFilter?.scores === 'fresh';
      Object.assign(place, { epoch: place.epoch + 1, step: 0, candidates: pool, pool: null });
      place.stale = isFresh ? [...pool] : [];
    } else return;
    this.#enter();
  }
}
