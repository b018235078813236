import { AnnealError } from '../core/errors.js';
import { bpeModel, byteLevel } from './byte-level.js';
import { type PreSplit, preSplits, preTokenizer } from './pre-split.js';
import { PretrainedTokenizer } from './pretrained-tokenizer.js';
import { addedToken } from './special-tokens.js';

/** What a GGUF file's metadata say about its tokenizer, under `tokenizer.ggml.` and these names. */
export interface GgufTokenizerMetadata {
  /** `model`; only byte-level BPE, which llama.cpp calls gpt2, is understood. */
  model: string;
  /** `pre`: which pre-tokenizer the model was trained with. */
  pre?: string | undefined;
  /** `tokens`: spellings by id, in the byte-level alphabet. */
  tokens: readonly string[];
  /** `token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
  tokenTypes?: ArrayLike<number> | undefined;
  /** `merges`: 'left right', best first. */
  merges: readonly string[];
}

const controlType = 3;
const userDefinedType = 4;

interface Pre {
  split: PreSplit;
  /** Words that are tokens as a whole are not put together by merges. */
  ignoreMerges?: boolean;
  normalizer?: { type: 'NFC' };
}

/** What the names that llama.cpp gives to pre-tokenizers mean. */
const preByName: Readonly<Record<string, Pre>> = {
  'gpt-2': { split: 'gpt2' },
  smollm: { split: 'smollm' },
  'llama-bpe': { split: 'gpt4', ignoreMerges: true },
  'llama-v3': { split: 'gpt4', ignoreMerges: true },
  llama3: { split: 'gpt4', ignoreMerges: true },
  qwen2: { split: 'qwen2', normalizer: { type: 'NFC' } },
};

/**
 * The tokenizer inside a GGUF file. Control tokens become special tokens, user-defined ones part of the ordinary
 * vocabulary; `toJSON` gives the `tokenizer.json` that the original model has.
 *
 * @throws AnnealError for another kind of tokenizer, or an unknown `pre`: a guess would give wrong ids silently
 */
export function tokenizerFromGguf(
  metadata: GgufTokenizerMetadata,
  options: { endOfText?: string } = {},
): PretrainedTokenizer {
  const { model, pre = 'none', tokens, merges } = metadata;
  if (model !== 'gpt2') {
    throw new AnnealError(
      `the GGUF file's tokenizer is of kind "${model}"; only "gpt2" (byte-level BPE) can be read. ` +
        "Put the model's tokenizer.json beside it instead",
    );
  }
  const known = Object.hasOwn(preByName, pre) ? preByName[pre] : undefined;
  if (!known) {
    const names = Object.keys(preByName).join(', ');
    throw new AnnealError(`the GGUF file's pre-tokenizer "${pre}" is unknown; known are ${names}`);
  }
  const typeOf = (id: number) => metadata.tokenTypes?.[id] ?? 1;
  const added = tokens.flatMap((content, id) => {
    const type = typeOf(id);
    if (type !== controlType && type !== userDefinedType) return [];
    return [addedToken(content, id, type === controlType)];
  });
  return new PretrainedTokenizer(
    {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: known.normalizer ?? null,
      pre_tokenizer: preTokenizer(preSplits[known.split]),
      post_processor: null,
      decoder: byteLevel(true),
      model: bpeModel(Object.fromEntries(tokens.map((token, id) => [token, id])), merges, {
        ignoreMerges: known.ignoreMerges ?? false,
      }),
    },
    options,
  );
}
