/** What reads and writes files: corpora, the Hugging Face Hub, tokenizers, cached tokens. Node only. */
export { type CacheOptions, cachedTokens, loadDataset, saveDataset } from './dataset-files.js';
export { findFiles } from './glob.js';
export { type HubOptions, type HubSnapshot, hubSnapshot } from './hub.js';
export { type HubDataOptions, hubDocuments, hubRecords } from './hub-sources.js';
export {
  type CorruptLines,
  type DataRecord,
  type DataSource,
  documents,
  type FieldOptions,
  type RecordOptions,
  records,
  type SkippedLine,
  type TextDocument,
  type TextOptions,
} from './sources.js';
export { loadTokenizer, saveTokenizer } from './tokenizer-files.js';
