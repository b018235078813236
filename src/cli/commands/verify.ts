import { readFile } from 'node:fs/promises';
import { writeFileAtomically } from '../../checkpoint/atomic.js';
import { fileError } from '../../checkpoint/file-source.js';
import { AnnealError } from '../../core/errors.js';
import { readItems } from '../../evaluate/items.js';
import { type AnswerType, answerVerifier } from '../../verify/answer.js';
import type { CodeProblem } from '../../verify/code/problem.js';
import { mapLimited } from '../../verify/judge/limit.js';
import { inlineRules, RowVerifier } from '../../verify/service/row-verifier.js';
import { parseRow, problemOf, rowResult } from '../../verify/service/rows.js';
import type { Outcome, Verdict, Verifier } from '../../verify/verdict.js';
import type { Cli } from '../terminal.js';
import { chooseVerifier, type JudgeFlags } from './verify-judge.js';

interface Flags extends JudgeFlags {
  reference?: string;
  question?: string;
  type: AnswerType | 'code';
  out?: string;
  workers?: number;
  /** Seconds. */
  deadline: number;
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
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new AnnealError(`--reference ${file} is no JSON: ${(error as Error).message}`);
  }
  return problemOf(value, `--reference ${file}`);
}

/** Rows from which on threads pay: the start of one takes as long as some hundred rows. */
const rowsForThreads = 256;

/** The rules for the rows of a file: in threads where those are asked for or pay, else in this one. */
async function openRules(
  flags: Flags,
  count: number,
): Promise<{ rules: Verifier; close: () => Promise<void> }> {
  const { workers, deadline } = flags;
  if (workers === undefined && count < rowsForThreads)
    return { rules: inlineRules, close: () => Promise.resolve() };
  const { VerifierPool } = await import('../../verify/service/pool.js');
  const pool = new VerifierPool({ ...(workers !== undefined && { workers }), deadlineMs: 1000 * deadline });
  return { rules: pool, close: () => pool.close() };
}

/** Verifies the rows of a file, several at once; verdicts are written in the order of the rows, all or none. */
async function verifyFile(this: Cli, flags: Flags, file: string, out: string): Promise<void> {
  const items = await readItems(file);
  const rows = items.map((row, i) => parseRow(row, `${file}, row ${i + 1}`, flags.type));
  const isCode = rows.some(({ kind }) => kind === 'code');
  if (isCode && flags.judge !== undefined)
    throw new AnnealError('--judge does not judge code: tests do; leave it out, or the rows of type "code"');
  const { rules, close: closeRules } = await openRules(flags, rows.length);
  // The judge is opened once; the rules before it are those of the row.
  const { verifier, close } = await chooseVerifier(rules, flags);
  const code = flags.workers === undefined ? {} : { workers: flags.workers };
  const service = new RowVerifier({ answers: verifier, code });
  const signal = this.terminal.interrupts();
  const stop = () => void close();
  signal.addEventListener('abort', stop, { once: true });
  // Enough to keep the threads, the sandboxes and the judge busy; each has a limit of its own.
  const width = Math.max(2 * flags.concurrency, 4 * (flags.workers ?? 8));
  let verdicts: Verdict[];
  try {
    verdicts = await mapLimited(rows, width, async (row) => {
      signal.throwIfAborted();
      return service.verify(row, { signal });
    });
  } catch (error) {
    // Ctrl-C: the exit code says it all.
    if (signal.aborted) return;
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    await Promise.all([close(), service.close()]);
    await closeRules();
  }
  const lines = verdicts.map((verdict, i) => `${JSON.stringify(rowResult(rows[i]!.id, verdict))}\n`);
  await writeFileAtomically(out, lines.join(''));
  const count = (outcome: Outcome) => verdicts.filter(({ verdict }) => verdict === outcome).length;
  const counts = { correct: count('correct'), incorrect: count('incorrect'), abstain: count('abstain') };
  if (flags.json) this.terminal.json({ rows: rows.length, ...counts });
  else
    this.terminal.print(
      `${rows.length} rows: ${counts.correct} correct, ${counts.incorrect} incorrect, ${counts.abstain} abstentions`,
    );
}
