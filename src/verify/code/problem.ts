import type { CompareOptions, Json } from '../sandbox/plain.js';
import type { FaultKind } from '../sandbox/sandbox.js';
import type { Verdict } from '../verdict.js';

export type Language = 'python' | 'javascript';

interface TestBase {
  /** Shown to whoever writes the program. What is not visible is hidden; see `splitTests`. */
  visible?: boolean;
}

/** Calls a function and holds its result against a value. */
export interface CallTest extends TestBase {
  kind: 'call';
  /** Function, or `Class.method`; by default the problem's entry. */
  name?: string;
  args: readonly Json[];
  keywords?: Readonly<Record<string, Json>>;
  expected: Json;
  /** The result is this argument after the call, for functions that change one in place. */
  changed?: number;
  compare?: CompareOptions;
}

/** Runs the whole program and holds what it prints against a text. */
export interface OutputTest extends TestBase {
  kind: 'output';
  input: string;
  expected: string;
  compare?: TextCompare;
}

/**
 * Python statements that raise when the program is wrong. They run in an interpreter that the program never enters:
 * the entry's name there is a stand-in that calls the program elsewhere and gets plain values back.
 */
export interface AssertionTest extends TestBase {
  kind: 'assertion';
  source: string;
  /** Definitions that the statements use, from the problem and not from the program. */
  support?: string;
  /** Other names under which the statements know the entry, such as HumanEval's `candidate`. */
  aliases?: readonly string[];
}

export type CodeTest = CallTest | OutputTest | AssertionTest;

/** How printed text is compared. */
export interface TextCompare {
  /**
   * `lines`: white space at the ends of lines and of the text does not count (default); `exact`: every character
   * does; `tokens`: words only, and numbers by value within `tolerance`.
   */
  mode?: 'lines' | 'exact' | 'tokens';
  /** Relative or absolute difference of numbers in `tokens`; default 0. */
  tolerance?: number;
  /** Decides alone, for problems with several valid outputs. */
  checker?: (output: string, input: string) => boolean;
}

export interface CodeProblem {
  id: string;
  language: Language;
  /** Function that call and assertion tests call; `Class.method` makes an object first. */
  entry?: string;
  /** What was asked. */
  prompt?: string;
  tests: readonly CodeTest[];
  /** Milliseconds for each test on a native interpreter; default 6000. */
  timeMs?: number;
}

/** `wrong`: it ran and gave another result; `not-plain`: a result that is no plain value; `skipped`: no time left. */
export type TestStatus = 'pass' | 'wrong' | 'not-plain' | 'skipped' | FaultKind;

export interface TestResult {
  /** Index into the problem's tests. */
  test: number;
  status: TestStatus;
  visible: boolean;
  /** One line on what went wrong: never what was expected. */
  message?: string;
  ms: number;
}

export interface Share {
  passed: number;
  total: number;
}

/** `correct` exactly where every test passed; `abstain` where the machine or the sandbox failed. */
export interface CodeVerdict extends Verdict {
  /** In the order of the problem's tests. */
  tests: TestResult[];
  visible: Share;
  hidden: Share;
  /** Which isolation ran it. */
  sandbox?: string;
}
