/** VerifyBench's files, with their swapped fields and their misspelling put right. */
import { AnnealError } from '../../core/errors.js';
import { type JsonItem, readItems } from '../../evaluate/items.js';

/** Which of the two files items are from. */
export type BenchSet = 'standard' | 'hard';

/** An item of VerifyBench: a completion, a reference, and what people found. */
export interface BenchItem {
  id: string;
  question: string;
  /** The reference: often a whole worked solution. */
  reference: string;
  /** The completion that is to be verified. */
  answer: string;
  /** What the annotators say: the completion is right. */
  expected: boolean;
  /** `A - Numeric Values`, `B - Expressions`, `C - Multi-choice` or `D - String`. */
  type: string;
  /** `A1 - Integer` … `D2 - Semantic`; absent where the data do not say. */
  subtype?: string;
  /** First part of the source, such as `math_reasoning`. */
  domain?: string;
  /** The model that wrote the completion. */
  model?: string;
}

/** Names as VerifyBench means them; its files spell one of them "Multiple Coice". */
const types: Record<string, string> = {
  A: 'A - Numeric Values',
  B: 'B - Expressions',
  C: 'C - Multi-choice',
  D: 'D - String',
};

/** In the order of reports. */
export const typeNames: readonly string[] = Object.values(types);

const codeOf = (value: unknown): string | undefined =>
  typeof value === 'string' ? /^\s*([A-D]\d?)(?!\w)/.exec(value)?.[1] : undefined;

/** `C2 - Multiple Coice` as `C2 - Multiple Choice`; white space around the dash does not matter. */
const tidy = (value: string) =>
  value
    .trim()
    .replace(/^(\w+)\s*-\s*/, '$1 - ')
    .replace(/\bCoice\b/, 'Choice');

/** Type and subtype. In the file of hard items the two fields are swapped: the one with a digit is the subtype. */
function kindOf(row: JsonItem, fail: (why: string) => AnnealError): { type: string; subtype?: string } {
  const fields = [row.answer_type, row.answer_subtype].filter((value) => codeOf(value) !== undefined);
  const typeField = fields.find((value) => codeOf(value)!.length === 1);
  const subtypeField = fields.find((value) => codeOf(value)!.length === 2) as string | undefined;
  const letter = codeOf(typeField ?? subtypeField)?.charAt(0);
  if (letter === undefined) {
    const has = JSON.stringify([row.answer_type ?? null, row.answer_subtype ?? null]);
    throw fail(`answer_type and answer_subtype are ${has}, and neither begins with A to D`);
  }
  return { type: types[letter]!, ...(subtypeField !== undefined && { subtype: tidy(subtypeField) }) };
}

/**
 * One row of VerifyBench's files.
 * @param place named in errors, such as `data.jsonl, item 3`
 * @throws AnnealError for a row that is none
 */
export function benchItem(row: JsonItem, place: string): BenchItem {
  const fail = (why: string) => new AnnealError(`${place}: ${why}; this is no item of VerifyBench`);
  const textOf = (name: string): string => {
    const value = row[name];
    if (typeof value === 'string') return value;
    if (typeof value === 'number') return String(value);
    throw fail(`"${name}" is ${value === undefined ? 'missing' : 'no text'}`);
  };
  if (typeof row.gold_correct !== 'boolean')
    throw fail(`"gold_correct" is ${JSON.stringify(row.gold_correct) ?? 'missing'} instead of true or false`);
  const { question_id: asked, completion_id: completed, id } = row;
  const name =
    id ?? (asked === undefined ? place : completed === undefined ? asked : `${asked}_${completed}`);
  // Collections that re-publish items keep their own name in `source`, and VerifyBench's in `data_source`.
  const source = [row.data_source, row.source].find(
    (value): value is string => typeof value === 'string' && /^\w+_reasoning\//.test(value),
  );
  return {
    id: String(name),
    question: textOf('question'),
    reference: textOf('answer'),
    answer: textOf('completion'),
    expected: row.gold_correct,
    ...kindOf(row, fail),
    ...(source !== undefined && { domain: source.slice(0, source.indexOf('/')) }),
    ...(typeof row.completion_model === 'string' && { model: row.completion_model }),
  };
}

/** Items of a file, with the set that its name tells. */
export interface BenchData {
  items: BenchItem[];
  /** Absent where the file's name does not tell. */
  set?: BenchSet;
  file: string;
}

const baseName = (file: string) => file.slice(file.search(/[^/\\]*$/));

/**
 * Reads a file of VerifyBench, whole or in part.
 * @throws AnnealError if it cannot be read, or a line is no item
 */
export async function readVerifyBench(file: string): Promise<BenchData> {
  const rows = await readItems(file);
  const items = rows.map((row, i) => benchItem(row, `${file}, item ${i + 1}`));
  const name = baseName(file);
  const set = /hard/i.test(name) ? 'hard' : /^verify_bench\.jsonl$/i.test(name) ? 'standard' : undefined;
  return { items, file, ...(set && { set }) };
}
