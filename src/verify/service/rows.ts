import { AnnealError } from '../../core/errors.js';
import type { AnswerOptions, AnswerType } from '../answer.js';
import type { CodeProblem } from '../code/problem.js';
import type { Verdict, VerifyItem } from '../verdict.js';

/** An item that says how it is to be verified; the options travel to a worker thread, so they are plain data. */
export interface AnswerItem extends VerifyItem {
  id?: string;
  options?: AnswerOptions;
}

/** What a caller named the row: given back as it came. */
export type RowId = string | number;

/** A row that was read: an answer to be compared, or a program to be run against tests. */
export type VerifyRow =
  | { kind: 'answer'; id: RowId; item: AnswerItem }
  | { kind: 'code'; id: RowId; problem: CodeProblem; response: string };

/** What is written for a row, in this order of fields. */
export interface RowResult {
  id: RowId;
  verdict: Verdict['verdict'];
  reason: string;
  extracted: string | null;
  /** Milliseconds of work, to the microsecond; waiting is not counted. */
  ms: number;
}

const answerTypes: readonly unknown[] = ['auto', 'math', 'choice', 'state', 'text'];

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * Options of a row's `config`: those of `answerVerifier`, and the names that Math-Verify's test cases use.
 * `floatDigits: 6` is their default, under which decimals are compared as ours are by default.
 */
export function rowOptions(config: unknown): AnswerOptions {
  if (!isObject(config)) return {};
  const { floatDigits, strict, allowSetRelation, ...own } = config;
  return {
    ...(typeof floatDigits === 'number' && floatDigits !== 6 && { tolerance: { digits: floatDigits } }),
    ...(typeof strict === 'boolean' && { strictSymbols: strict }),
    ...(typeof allowSetRelation === 'boolean' && { setFromRelation: allowSetRelation }),
    ...own,
  };
}

/**
 * A problem from its JSON.
 * @param place named in errors
 * @throws AnnealError for a language without a sandbox, or without tests
 */
export function problemOf(value: unknown, place: string): CodeProblem {
  const fail = (why: string) =>
    new AnnealError(
      `${place} ${why}; a problem is {"language": "python", "entry"?, "tests": [{"kind": "call", "args", "expected"}, …]}`,
    );
  if (!isObject(value)) throw fail('is no problem');
  const problem = value as Partial<CodeProblem>;
  if (problem.language !== 'python' && problem.language !== 'javascript')
    throw fail('names neither "python" nor "javascript" as its language');
  if (!Array.isArray(problem.tests) || problem.tests.length === 0) throw fail('has no tests');
  for (const [index, test] of problem.tests.entries()) {
    const known = isObject(test) && ['call', 'output', 'assertion'].includes(String(test.kind));
    if (!known) throw fail(`has a test ${index + 1} whose kind is not "call", "output" or "assertion"`);
    if (test.kind === 'call' && !Array.isArray(test.args)) throw fail(`has a test ${index + 1} without args`);
  }
  return { id: place, ...problem } as CodeProblem;
}

/**
 * One row: `{ id?, gold or reference, answer, question?, type?, config? }`; for `"type": "code"` the gold is a problem
 * and the answer a response that holds the program.
 * @param place stands in for a missing id, and is named in errors
 * @param type of rows that name none
 * @throws AnnealError for what is no row
 */
export function parseRow(
  value: unknown,
  place: string,
  type: AnswerType | 'code' | undefined = undefined,
): VerifyRow {
  if (!isObject(value)) throw new AnnealError(`${place} is no JSON object; a row is {"gold", "answer", …}`);
  const textOf = (names: readonly string[]) => {
    const found = names.map((name) => value[name]).find((one) => one !== undefined);
    if (typeof found === 'string') return found;
    if (typeof found === 'number' || typeof found === 'boolean') return String(found);
    throw new AnnealError(`${place} has no text in "${names.join('" or "')}"; give every row one`);
  };
  const id = typeof value.id === 'string' || typeof value.id === 'number' ? value.id : place;
  const wanted = value.type ?? type;
  if (wanted === 'code') {
    const problem = problemOf(value.gold ?? value.reference ?? value.problem, `${place}: its gold`);
    return { kind: 'code', id, problem: { ...problem, id: String(id) }, response: textOf(['answer']) };
  }
  if (wanted !== undefined && !answerTypes.includes(wanted))
    throw new AnnealError(
      `${place} has the type ${JSON.stringify(wanted)}; known are ${answerTypes.join(', ')}, code`,
    );
  const { question } = value;
  const item: AnswerItem = {
    id: String(id),
    answer: textOf(['answer']),
    reference: textOf(['gold', 'reference']),
    ...(typeof question === 'string' && { question }),
    options: { ...(wanted !== undefined && { type: wanted as AnswerType }), ...rowOptions(value.config) },
  };
  return { kind: 'answer', id, item };
}

/** What is written for a row. */
export const rowResult = (id: RowId, { verdict, reason, extracted, ms }: Verdict): RowResult => ({
  id,
  verdict,
  reason,
  extracted: extracted ?? null,
  ms: Math.round(ms * 1000) / 1000,
});
