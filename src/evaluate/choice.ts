import { AnnealError } from '../core/errors.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { type Scorer, sumFrom } from './scorer.js';

/** A context with its possible continuations as token ids, ready to be scored. */
export interface EncodedChoices {
  /** Context and continuation together, one sequence a choice. */
  sequences: Int32Array[];
  /** Tokens 0 … shared-1 are the same in every sequence; those from `shared` on are scored. */
  shared: number;
}

/** Options of `encodeChoices`. */
export interface EncodeChoicesOptions {
  /** Longest sequence; longer ones lose tokens at the beginning. Default: no limit. */
  limit?: number;
  /** The token that stands for an empty context. Default: the tokenizer's end of text. */
  prefix?: number;
}

function commonPrefix(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
}

function prefixToken(tokenizer: Tokenizer, { prefix }: EncodeChoicesOptions): number {
  const found = prefix ?? tokenizer.endOfText;
  if (found !== undefined) return found;
  throw new AnnealError(
    'choices after an empty context need a token to start from, but the tokenizer has none that ends a document; give the items a context',
  );
}

/**
 * Tokenises each choice together with its context, as it would stand in a text, and finds where scoring starts.
 *
 * As in lm-evaluation-harness, white space at the context's end goes to the choices (" Paris" is one
 * token, "Paris" after a space another), and an empty context is the end-of-text token. Where a token would
 * span the boundary of context and choice, the harness cuts it off unscored; here scoring starts for all choices
 * of the item before that token, so that all are compared over the same text after the same tokens.
 *
 * @throws AnnealError if there are fewer than two choices, one is empty, or one is longer than the limit
 */
export function encodeChoices(
  tokenizer: Tokenizer,
  context: string,
  choices: readonly string[],
  options: EncodeChoicesOptions = {},
): EncodedChoices {
  if (choices.length < 2) throw new AnnealError(`an item has ${choices.length} choices; give it two or more`);
  const empty = choices.indexOf('');
  if (empty >= 0) throw new AnnealError(`choice ${empty + 1} of an item is empty; each must be a text`);
  const { limit = Number.POSITIVE_INFINITY } = options;
  const trimmed = context.trimEnd();
  const space = context.slice(trimmed.length);
  const start = tokenizer.encode(trimmed);
  const encoded = choices.map((choice) => tokenizer.encode(trimmed + space + choice));
  // At least one token of each sequence has to be left to score.
  const shared = Math.min(
    ...encoded.map((tokens) => Math.min(commonPrefix(start, tokens), tokens.length - 1)),
  );
  if (shared > 0) return cut(encoded, shared, limit);
  const first = prefixToken(tokenizer, options);
  return cut(
    encoded.map((tokens) => Int32Array.of(first, ...tokens)),
    1,
    limit,
  );
}

/** Takes tokens off the beginning, of all sequences the same number, until the longest fits. */
function cut(sequences: Int32Array[], shared: number, limit: number): EncodedChoices {
  const longest = Math.max(...sequences.map(({ length }) => length));
  const excess = Math.max(0, longest - limit);
  if (excess >= shared) {
    throw new AnnealError(
      `a choice of ${longest - shared} tokens does not fit into the model's context of ${limit}; shorten it`,
    );
  }
  return { sequences: sequences.map((tokens) => tokens.subarray(excess)), shared: shared - excess };
}

/** The log-likelihoods of an item's choices. */
export interface ChoiceScores {
  /** log p(choice | context), in nats. */
  logprobs: number[];
  /** Tokens that were scored. */
  tokens: number[];
}

/** Scores items together: their sequences share calls of the scorer. */
export async function scoreChoices(
  scorer: Scorer,
  items: readonly EncodedChoices[],
): Promise<ChoiceScores[]> {
  const logprobs = await scorer.logprobs(items.flatMap(({ sequences }) => sequences));
  let at = 0;
  return items.map(({ sequences, shared }) => {
    const own = logprobs.slice(at, at + sequences.length);
    at += sequences.length;
    return {
      logprobs: own.map((entries) => sumFrom(entries, shared - 1)),
      tokens: sequences.map(({ length }) => length - shared),
    };
  });
}

/** Index of the largest value, the first of equal ones (NumPy's argmax). */
export function argmax(values: readonly number[]): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** Which choice wins under each way to make lengths comparable. */
export interface ChoicePredictions {
  /** By log-likelihood: `acc` of lm-evaluation-harness. */
  raw: number;
  /** By log-likelihood per character: `acc_norm`. */
  perCharacter: number;
  /** By log-likelihood per UTF-8 byte: `acc_bytes`, and what most papers call byte-length normalised. */
  perByte: number;
  /** By mean log-likelihood of a token. */
  perToken: number;
}

/** Picks of an item. Lengths are those of the choice's own text, without the delimiter before it. */
export function predictChoices(choices: readonly string[], scores: ChoiceScores): ChoicePredictions {
  const { logprobs, tokens } = scores;
  const by = (lengths: readonly number[]) => argmax(logprobs.map((logprob, i) => logprob / lengths[i]!));
  return {
    raw: argmax(logprobs),
    // Python counts code points, as an iterator over a string does; `length` would count UTF-16 units.
    perCharacter: by(choices.map((choice) => [...choice].length)),
    perByte: by(choices.map((choice) => new TextEncoder().encode(choice).length)),
    perToken: by(tokens),
  };
}
