import { AnnealError } from '../core/errors.js';
import { byteDecoder, byteLevel, decodeBytes, spellBytes, spelledBytes } from './byte-level.js';
import { type BpeModelEntry, BytePairs } from './byte-pairs.js';
import { preSplits, splitter } from './pre-split.js';
import { type AddedToken, addedBySpelling, splitSpecial } from './special-tokens.js';
import { TokenBuffer } from './token-buffer.js';
import type { SpecialToken, StreamDecoder, Tokenizer } from './tokenizer.js';
import { Library, type LibraryTokenizer } from './tokenizers-library.js';

type Entry = Record<string, unknown> & { type?: string };

/** The parts of `tokenizer.json` that are read here; the rest belongs to the library. */
export interface TokenizerJson extends Record<string, unknown> {
  added_tokens?: AddedToken[];
  normalizer?: Entry | null;
  pre_tokenizer?: Entry | null;
  decoder?: Entry | null;
  model: Entry;
}

/** Tokens by which published models end a document, the most telling first. */
const usualEnds = [
  '<|endoftext|>',
  '<|end_of_text|>',
  '</s>',
  '<eos>',
  '<|end▁of▁sentence|>',
  '<｜end▁of▁sentence｜>',
];

/** Words whose ids are remembered; then the memory is emptied, which costs less than counting uses. */
const cacheLimit = 1 << 17;
/** Characters of the longest words that are remembered, and bytes of the longest that may be one token. */
const longestKept = 256;

/** Steps of a pre-tokenizer entry. */
const stepsOf = (entry: Entry | null | undefined): Entry[] => {
  if (!entry) return [];
  return entry.type === 'Sequence' ? (entry.pretokenizers as Entry[]).flatMap(stepsOf) : [entry];
};

/**
 * ByteLevel's own regular expression as an explicit split: the library's built-in copy takes JavaScript's white
 * space, which differs from Unicode's in U+FEFF and U+0085.
 */
function explicitSplits(steps: readonly Entry[]): Entry[] {
  return steps.flatMap((step) => {
    if (step.type !== 'ByteLevel' || step.use_regex === false || step.add_prefix_space) return [step];
    const split = {
      type: 'Split',
      pattern: { Regex: preSplits.gpt2[0] },
      behavior: 'Isolated',
      invert: false,
    };
    return [split, byteLevel(false)];
  });
}

/** Patterns of a pre-tokenizer that only splits and then spells bytes; undefined for any other. */
function byteLevelPatterns(steps: readonly Entry[]): string[] | undefined {
  const last = steps.at(-1);
  if (last?.type !== 'ByteLevel' || last.use_regex !== false || last.add_prefix_space) return undefined;
  const patterns = steps.slice(0, -1).map((step) => {
    const regex = (step.pattern as { Regex?: string } | undefined)?.Regex;
    const isPlain =
      step.type === 'Split' && String(step.behavior).toLowerCase() === 'isolated' && !step.invert;
    return isPlain ? regex : undefined;
  });
  return patterns.every((pattern) => pattern !== undefined) ? patterns : undefined;
}

/**
 * A tokenizer that a `tokenizer.json` describes, run by @huggingface/tokenizers.
 *
 * Added tokens are found here, so that the library never sees special ones (`"special": true`) unless they are
 * asked for. Added tokens that are not special are part of the ordinary vocabulary, as in Hugging Face's own
 * libraries; all are looked for before normalisation. Post-processors, which would add tokens around a text, are
 * not applied. Ids without a token decode to nothing.
 */
export class PretrainedTokenizer implements Tokenizer {
  readonly size: number;
  readonly endOfText: number | undefined;
  readonly specialTokens: ReadonlyMap<string, SpecialToken>;
  readonly #json: TokenizerJson;
  readonly #library: LibraryTokenizer;
  readonly #special: ReadonlySet<number>;
  readonly #ordinaryAdded: ReadonlyMap<string, SpecialToken>;
  /** Every added token, as `special: true` recognises them. */
  readonly #allAdded: ReadonlyMap<string, SpecialToken>;
  /** Cuts text into words that can be encoded one by one; undefined where the library has to do it. */
  readonly #split: ((text: string) => string[]) | undefined;
  readonly #words = new Map<string, Int32Array>();
  /** Encodes words faster than the library, where the model is plain byte-level BPE. */
  readonly #pairs: BytePairs | undefined;
  /** Bytes of each id; undefined where tokens are not spelled in bytes. */
  readonly #bytes: (Uint8Array | undefined)[] | undefined;

  /** @throws AnnealError for a description that the library does not understand */
  constructor(json: TokenizerJson, options: { endOfText?: string } = {}) {
    this.#json = json;
    const added = json.added_tokens ?? [];
    this.specialTokens = addedBySpelling(added, true);
    this.#ordinaryAdded = addedBySpelling(added, false);
    this.#special = new Set([...this.specialTokens.values()].map(({ id }) => id));
    const steps = explicitSplits(stepsOf(json.pre_tokenizer));
    this.#allAdded = new Map([...this.specialTokens, ...this.#ordinaryAdded]);
    this.#library = openLibrary(json, steps);
    const vocabulary = this.#library.model.vocab;
    this.size = vocabulary.length;
    this.endOfText = this.#findEnd(options.endOfText);
    const patterns = byteLevelPatterns(steps);
    if (patterns && json.model.type === 'BPE') {
      this.#split = splitter(patterns);
      this.#pairs = BytePairs.from(json.model as BpeModelEntry);
    }
    if (json.decoder?.type === 'ByteLevel') {
      const bytes = Array.from(vocabulary, (spelling) =>
        spelling === undefined ? undefined : spelledBytes(spelling),
      );
      for (const { id, content } of added) bytes[id] = new TextEncoder().encode(content);
      this.#bytes = bytes;
    }
  }

  encode(text: string, options: { special?: boolean; continued?: boolean } = {}): Int32Array {
    const added = options.special ? this.#allAdded : this.#ordinaryAdded;
    const tokens = new TokenBuffer();
    const first = options.continued ? 1 : 0;
    splitSpecial(text, added).forEach((section, index) => {
      if (typeof section === 'string') this.#encodeOrdinary(section, first + index, tokens);
      else tokens.push(section.id);
    });
    return tokens.toArray();
  }

  decode(tokens: ArrayLike<number>, options: { special?: boolean } = {}): string {
    if (this.#bytes) return decodeBytes(tokens, (token) => this.#bytesOf(token, options.special));
    const known = Array.from(tokens).filter((token) => this.#library.model.vocab[token] !== undefined);
    const shown = options.special ? known : known.filter((token) => !this.#special.has(token));
    if (!shown.length) return '';
    return this.#library.decode(shown, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  }

  decoder(): StreamDecoder {
    return this.#bytes ? byteDecoder((token) => this.#bytesOf(token)) : windowDecoder(this);
  }

  idOf(token: string): number | undefined {
    return this.specialTokens.get(token)?.id ?? this.#library.token_to_id(token);
  }

  toJSON(): Record<string, unknown> {
    return this.#json;
  }

  #bytesOf(token: number, special = false): Uint8Array | undefined {
    return !special && this.#special.has(token) ? undefined : this.#bytes![token];
  }

  #encodeOrdinary(text: string, index: number, tokens: TokenBuffer): void {
    const { normalizer, pre_tokenizer } = this.#library;
    const normal = normalizer ? normalizer.normalize(text) : text;
    if (this.#split) for (const word of this.#split(normal)) tokens.append(this.#wordIds(word));
    else if (normal) {
      tokens.append(this.#idsOf(pre_tokenizer?.pre_tokenize(normal, { section_index: index }) ?? [normal]));
    }
  }

  /** Ids of a word, remembered: a text repeats its words. */
  #wordIds(word: string): Int32Array {
    const known = this.#words.get(word);
    if (known) return known;
    const ids = this.#encodeWord(new TextEncoder().encode(word));
    // Long words hardly come again.
    if (word.length > longestKept) return ids;
    if (this.#words.size >= cacheLimit) this.#words.clear();
    this.#words.set(word, ids);
    return ids;
  }

  #encodeWord(bytes: Uint8Array): Int32Array {
    if (!this.#pairs) return this.#idsOf([spellBytes(bytes)]);
    const isWhole = this.#json.model.ignore_merges && bytes.length <= longestKept;
    const whole = isWhole ? this.#library.model.tokens_to_ids.get(spellBytes(bytes)) : undefined;
    return whole === undefined ? this.#pairs.encode(bytes) : Int32Array.of(whole);
  }

  #idsOf(words: string[]): Int32Array {
    const { model } = this.#library;
    return Int32Array.from(model._call(words), (token) => {
      const id = model.tokens_to_ids.get(token) ?? model.unk_token_id;
      if (id !== undefined) return id;
      throw new AnnealError(`the vocabulary lacks ${JSON.stringify(token)} and has no unknown token`);
    });
  }

  #findEnd(name: string | undefined): number | undefined {
    if (name !== undefined) {
      const id = this.idOf(name);
      if (id === undefined)
        throw new AnnealError(`the vocabulary has no token ${JSON.stringify(name)} to end texts`);
      return id;
    }
    return usualEnds.map((end) => this.specialTokens.get(end)?.id).find((id) => id !== undefined);
  }
}

function openLibrary(json: TokenizerJson, steps: readonly Entry[]): LibraryTokenizer {
  const added = json.added_tokens ?? [];
  const description = {
    ...json,
    added_tokens: added,
    normalizer: json.normalizer ?? null,
    pre_tokenizer: steps.length ? { type: 'Sequence', pretokenizers: steps } : null,
    post_processor: null,
    decoder: json.decoder ?? null,
  };
  try {
    const library = new Library(description, {});
    // A word that happens to be spelled like a special token must not be looked up as one.
    for (const token of added) if (token.special) library.model.tokens_to_ids.delete(token.content);
    return library;
  } catch (error) {
    throw new AnnealError(`this tokenizer.json cannot be used: ${(error as Error).message}`);
  }
}

/**
 * Streams any tokenizer through `decode`: text is final once what follows no longer ends in an unfinished
 * character. Only the tokens since the last final text, and those before that were final together, are decoded.
 */
function windowDecoder(tokenizer: Tokenizer): StreamDecoder {
  let window: number[] = [];
  let context = 0;
  const fresh = () => tokenizer.decode(window).slice(tokenizer.decode(window.slice(0, context)).length);
  return {
    push(token) {
      window.push(token);
      const text = fresh();
      if (!text || text.endsWith('\ufffd')) return '';
      window = window.slice(context);
      context = window.length;
      return text;
    },
    end() {
      const text = fresh();
      window = [];
      context = 0;
      return text;
    },
  };
}
