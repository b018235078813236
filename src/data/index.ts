/** Tokenizers, chat templates, datasets of tokens and batches. Everything here also runs in a browser; what reads files is in node.js. */
export type { BatchSource, Feeds, Json } from './batch-source.js';
export { ByteTokenizer } from './byte-tokenizer.js';
export { type CharacterOptions, CharacterTokenizer, characterTokenizer } from './character-tokenizer.js';
export { type ChatMessage, encodeChat, type RenderOptions, renderChat } from './chat.js';
export { type EncodedConversation, encodeConversation } from './conversation.js';
export { type GgufTokenizerMetadata, tokenizerFromGguf } from './gguf-tokenizer.js';
export { type PreSplit, preSplits } from './pre-split.js';
export { prefetch } from './prefetch.js';
export { PretrainedTokenizer, type TokenizerJson } from './pretrained-tokenizer.js';
export type { BatchMode } from './rows.js';
export {
  type BatchOptions,
  type LanguageBatch,
  type PackedBatch,
  sequentialBatches,
  TokenBatches,
} from './token-batches.js';
export { type Split, splitDocuments, splitTail, type TokenArray, TokenDataset } from './token-dataset.js';
export { type Conversation, type TokenizeOptions, tokenize, tokenizeConversations } from './tokenize.js';
export type { SpecialToken, StreamDecoder, Tokenizer } from './tokenizer.js';
export { tokenizerFromJSON } from './tokenizer-json.js';
export { type TrainBpeOptions, trainBpe } from './train-bpe.js';
