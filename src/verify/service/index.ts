/** Many items at once: worker threads, rows of files, and a server of verdicts. Needs Node. */
export { VerifierPool, type VerifierPoolOptions, verifyAll } from './pool.js';
export { inlineRules, RowVerifier, type RowVerifierOptions } from './row-verifier.js';
export {
  type AnswerItem,
  parseRow,
  problemOf,
  type RowId,
  type RowResult,
  rowOptions,
  rowResult,
  type VerifyRow,
} from './rows.js';
export { createVerifyServer, type VerifyServer, type VerifyServerOptions } from './server.js';
