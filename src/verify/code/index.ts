// Programs against tests. What a test expects never enters the interpreter of the program.
export { type HumanEvalRow, humanEvalProblem, type MbppRow, mbppProblem } from './benchmarks.js';
export { samePrinted } from './compare-text.js';
export { type ExtractedCode, extractCode } from './extract.js';
export type {
  AssertionTest,
  CallTest,
  CodeProblem,
  CodeTest,
  CodeVerdict,
  Language,
  OutputTest,
  Share,
  TestResult,
  TestStatus,
  TextCompare,
} from './problem.js';
export { type SplitOptions, splitTests } from './split-tests.js';
export { CodeVerifier, type CodeVerifierOptions, type VerifyCodeOptions } from './verifier.js';
