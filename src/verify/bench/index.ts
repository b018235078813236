/** VerifyBench (arXiv 2505.15801): how good is a verifier? `loadVerifyBench` needs Node. */
export {
  type BenchData,
  type BenchItem,
  type BenchSet,
  benchItem,
  readVerifyBench,
  typeNames,
} from './items.js';
export { type PublishedRow, type PublishedScores, publishedRows, publishedSizes } from './published.js';
export {
  type BenchReport,
  type BenchTable,
  benchReport,
  comparisonTable,
  type ReportOptions,
  reportNotes,
  scoresTable,
} from './report.js';
export {
  type BenchOptions,
  type BenchQuestion,
  type BenchRecord,
  type BenchVerifier,
  runVerifyBench,
} from './run.js';
export { type BenchScores, benchScores, benchTimes, type Confusion, type Times } from './scores.js';
export { loadVerifyBench, type VerifyBenchOptions, verifyBenchRepository } from './source.js';
