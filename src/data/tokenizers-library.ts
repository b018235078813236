import * as library from '@huggingface/tokenizers';

/**
 * What is used of @huggingface/tokenizers, typed here: its declarations import each other without file
 * extensions, which TypeScript does not resolve for ES modules in Node, so they come out as `any`.
 */
export interface LibraryTokenizer {
  readonly normalizer: { normalize(text: string): string } | null;
  /** `section_index` is 0 for the first piece of a text between added tokens. */
  readonly pre_tokenizer: { pre_tokenize(text: string, options: { section_index: number }): string[] } | null;
  readonly model: LibraryModel;
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string;
  token_to_id(token: string): number | undefined;
}

export interface LibraryModel {
  /** Spellings by id; ids without a token are holes. */
  readonly vocab: (string | undefined)[];
  readonly tokens_to_ids: Map<string, number>;
  readonly unk_token_id?: number;
  /** Words to spellings of tokens, runs of unknown ones fused where the model says so. */
  _call(words: string[]): string[];
}

const { Tokenizer, SplitPreTokenizer } = library as unknown as {
  Tokenizer: new (json: object, config: object) => LibraryTokenizer;
  SplitPreTokenizer: new (entry: object) => { readonly pattern: RegExp | null };
};

export { SplitPreTokenizer, Tokenizer as Library };
