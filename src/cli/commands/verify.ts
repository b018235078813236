import { readFile } from 'node:fs/promises';
import { writeFileAtomically } from '../../checkpoint/atomic.js';
import { fileError } from '../../checkpoint/file-source.js';
import { AnnealError } from '../../core/errors.js';
import { type JsonItem, readItems } from '../../evaluate/items.js';
import { type AnswerOptions, type AnswerType, answerVerifier } from '../../verify/answer.js';
import type { CodeProblem } from '../../verify/code/problem.js';
import { mapLimited } from '../../verify/judge/limit.js';
import type { Outcome, Verdict, Verifier, VerifyItem } from '../../verify/verdict.js';
import type { Cli } from '../terminal.js';
import { chooseVerifier, type JudgeFlags } from './verify-judge.js';

interface Flags extends JudgeFlags {
  reference?: string;
  question?: string;
  type: AnswerType | 'code';
  out?: string;
  json?: boolean;
}

async function readInput(): Promise<string> {
  let text = '';
  for await (const piece of process.stdin.setEncoding('utf8')) text += piece;
  return text;
}

/** `anneal verify ANSWER --reference REF`, or `anneal verify ROWS.jsonl --out FILE`. */
export async function verify(this: Cli, flags: Flags, given: string): Promise<void> {
  if (flags.out !== undefined) return verifyFile.call(this, flags, given, flags.out);
  const { reference, question } = flags;
  if (reference === undefined)
    throw new AnnealError('--reference is missing: give the right answer, or --out for a file of rows');
  const answer = given === '-' ? await readInput() : given;
  const verdict =
    flags.type === 'code'
      ? await verifyProgram(answer, reference, flags)
      : await verifyOne(
          { answer, reference, ...(question !== undefined && { question }) },
          flags,
          flags.type,
        );
  if (flags.json) {
    this.terminal.json(verdict);
    return;
  }
  this.terminal.print(`${verdict.verdict} (${verdict.reason})`);
  for (const side of ['answer', 'reference'] as const) {
    const found = verdict[side];
    if (found) this.terminal.print(`${side.padEnd(9)}  ${found.text}  (${found.rule})`);
  }
}

async function verifyOne(
  item: { answer: string; reference: string; question?: string },
  flags: Flags,
  type: AnswerType,
): Promise<Verdict> {
  const { verifier, close } = await chooseVerifier(answerVerifier({ type }), flags);
  try {
    return await verifier.verify(item);
  } finally {
    await close();
  }
}

/** Runs a program against the tests of a problem; both may stand in files. */
async function verifyProgram(answer: string, reference: string, flags: Flags): Promise<Verdict> {
  if (flags.judge !== undefined)
    throw new AnnealError('--judge does not judge code: tests do; leave it out with --type code');
  const text = await readFile(reference, 'utf8').catch((error: unknown) => {
    throw fileError('read', `--reference ${reference}`, error);
  });
  const problem = parseProblem(text, reference);
  const { CodeVerifier } = await import('../../verify/code/verifier.js');
  const verifier = await CodeVerifier.open();
  try {
    return await verifier.verify(problem, await readFile(answer, 'utf8').catch(() => answer));
  } finally {
    await verifier.close();
  }
}

function parseProblem(text: string, file: string): CodeProblem {
  const fail = (why: string) =>
    new AnnealError(
      `--reference ${file} ${why}; a problem is {"language": "python", "entry"?, "tests": [{"kind": "call", "args", "expected"}, …]}`,
    );
  let problem: Partial<CodeProblem> | null;
  try {
    problem = JSON.parse(text) as typeof problem;
  } catch (error) {
    throw fail(`is no JSON (${(error as Error).message})`);
  }
  if (problem?.language !== 'python' && problem?.language !== 'javascript')
    throw fail('names neither "python" nor "javascript" as its language');
  if (!Array.isArray(problem.tests) || problem.tests.length === 0) throw fail('has no tests');
  return { id: file, ...problem } as CodeProblem;
}

/** Options of a row's `config`: those of `answerVerifier`, and the names that other verifiers' test cases use. */
function optionsOf(config: unknown): AnswerOptions {
  if (typeof config !== 'object' || config === null) return {};
  const { floatDigits, strict, allowSetRelation, targets: _, ...own } = config as Record<string, unknown>;
  return {
    ...(typeof floatDigits === 'number' && floatDigits !== 6 && { tolerance: { digits: floatDigits } }),
    ...(typeof strict === 'boolean' && { strictSymbols: strict }),
    ...(typeof allowSetRelation === 'boolean' && { setFromRelation: allowSetRelation }),
    ...own,
  };
}

const types = new Set<unknown>(['auto', 'math', 'choice', 'state', 'text']);

function rowOf(row: JsonItem, place: string) {
  const textOf = (names: readonly string[]) => {
    const value = names.map((name) => row[name]).find((one) => one !== undefined);
    if (typeof value === 'string') return value;
    if (typeof value === 'number') return String(value);
    throw new AnnealError(`${place} has no text in "${names.join('" or "')}"; give every row one`);
  };
  const { question, type } = row;
  if (type !== undefined && !types.has(type))
    throw new AnnealError(
      `${place} has the type ${JSON.stringify(type)}; known are ${[...types].join(', ')}`,
    );
  return {
    id: row.id ?? place,
    type: type as AnswerType | undefined,
    options: optionsOf(row.config),
    item: {
      id: String(row.id ?? place),
      answer: textOf(['answer']),
      reference: textOf(['gold', 'reference']),
      ...(typeof question === 'string' && { question }),
    },
  };
}

/** Verifies the rows of a file, several at once; verdicts are written in the order of the rows, all or none. */
async function verifyFile(this: Cli, flags: Flags, file: string, out: string): Promise<void> {
  const { type } = flags;
  if (type === 'code')
    throw new AnnealError(
      '--out takes no programs; verify each with --type code and the --reference of its problem',
    );
  const rows = (await readItems(file)).map((row, i) => rowOf(row, `${file}, row ${i + 1}`));
  // The judge is opened once; the rules before it are those of the row.
  const rulesOf = new Map<VerifyItem, Verifier>(
    rows.map((row) => [row.item, answerVerifier({ type: row.type ?? type, ...row.options })]),
  );
  const rules: Verifier = { name: 'rules', verify: (item) => rulesOf.get(item)!.verify(item) };
  const { verifier, close } = await chooseVerifier(rules, flags);
  const signal = this.terminal.interrupts();
  const stop = () => void close();
  signal.addEventListener('abort', stop, { once: true });
  let verdicts: Verdict[];
  try {
    verdicts = await mapLimited(rows, 2 * flags.concurrency, async ({ item }) => {
      signal.throwIfAborted();
      return verifier.verify(item);
    });
  } catch (error) {
    // Ctrl-C: the exit code says it all.
    if (signal.aborted) return;
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    await close();
  }
  const lines = verdicts.map(({ verdict, reason, extracted = null, ms }, i) =>
    JSON.stringify({ id: rows[i]!.id, verdict, reason, extracted, ms: Math.round(ms * 1000) / 1000 }),
  );
  await writeFileAtomically(out, lines.map((line) => `${line}\n`).join(''));
  const count = (outcome: Outcome) => verdicts.filter(({ verdict }) => verdict === outcome).length;
  const counts = { correct: count('correct'), incorrect: count('incorrect'), abstain: count('abstain') };
  if (flags.json) this.terminal.json({ rows: rows.length, ...counts });
  else
    this.terminal.print(
      `${rows.length} rows: ${counts.correct} correct, ${counts.incorrect} incorrect, ${counts.abstain} abstentions`,
    );
}
