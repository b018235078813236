/**
 * Problems of HumanEval and MBPP, with each assertion as a test of its own: what a program fails can be told, and
 * tests can be hidden and shuffled.
 */
import { AnnealError } from '../../core/errors.js';
import type { AssertionTest, CodeProblem } from './problem.js';
import { children, functionBody, parsePython, textOf } from './python-syntax.js';

/** A row of HumanEval (openai/human-eval). */
export interface HumanEvalRow {
  task_id: string;
  prompt: string;
  entry_point: string;
  canonical_solution: string;
  test: string;
}

/** A row of MBPP's sanitised split (google-research). */
export interface MbppRow {
  task_id: number;
  prompt: string;
  code: string;
  test_imports: readonly string[];
  test_list: readonly string[];
}

/** A statement of an indented body as a block that stands alone: `if True:` gives the indentation a reason. */
const asBlock = (statement: string, indent: string) => `if True:\n${indent}${statement}\n`;

/**
 * A problem of HumanEval. Every assertion at the top of its `check` becomes a test of its own, with the statements
 * between as its support, so that tests can be hidden and shuffled. The prompt's helper functions come with the
 * tests, from the prompt: a program cannot replace them.
 */
export function humanEvalProblem(row: HumanEvalRow): CodeProblem {
  const body = functionBody(row.test, 'check');
  if (!body) throw new AnnealError(`HumanEval row ${row.task_id} has no function check in its test.`);
  const before = row.test.slice(0, row.test.search(/^def check\b/m));
  const first = body[0];
  const indent = first ? /[ \t]*$/.exec(row.test.slice(0, first.from))![0] : '';
  const support: string[] = [];
  const tests: AssertionTest[] = [];
  for (const node of body) {
    const text = asBlock(textOf(node, row.test), indent);
    const holdsAssertion = node.name === 'AssertStatement' || /\bassert\b/.test(text);
    if (!holdsAssertion) support.push(text);
    else {
      const trivial = /^\s*assert True\b/.test(textOf(node, row.test));
      if (trivial) continue;
      tests.push({
        kind: 'assertion',
        source: [...support, text].join(''),
        support: `${row.prompt}\n${before}`,
        aliases: ['candidate'],
      });
    }
  }
  return { id: row.task_id, language: 'python', entry: row.entry_point, prompt: row.prompt, tests };
}

/** Built-ins that MBPP's assertions wrap around the call in question, and that some of its programs define too. */
const wrappers = new Set(['set', 'sorted', 'list', 'tuple', 'abs', 'round', 'len', 'sum', 'str']);

/** The function that MBPP's assertions are about: one that its code defines and that they call. */
function mbppEntry(row: MbppRow): string {
  const defined = new Set([...row.code.matchAll(/^(?:def|class)\s+(\w+)/gm)].map((match) => match[1]!));
  const called = row.test_list
    .flatMap((test) => [...test.matchAll(/([A-Za-z_]\w*)\s*\(/g)])
    .map((match) => match[1]!)
    .filter((name) => defined.has(name));
  const entry = called.find((name) => !wrappers.has(name)) ?? called[0];
  if (!entry) throw new AnnealError(`MBPP row ${row.task_id} calls no function that its code defines.`);
  return entry;
}

/**
 * A problem of MBPP: each assertion is a test. Some assertions count on what the reference program imports, so its
 * imports come with the tests.
 */
export function mbppProblem(row: MbppRow): CodeProblem {
  const statements = children(parsePython(row.code).topNode);
  const imports = statements
    .filter(({ name }) => name === 'ImportStatement')
    .map((one) => textOf(one, row.code));
  const support = [...row.test_imports, ...imports].join('\n');
  return {
    id: `MBPP/${row.task_id}`,
    language: 'python',
    entry: mbppEntry(row),
    prompt: row.prompt,
    tests: row.test_list.map((source) => ({ kind: 'assertion', source, support })),
  };
}
