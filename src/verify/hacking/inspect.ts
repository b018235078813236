/** All static detectors on one program. */
import type { CodeProblem } from '../code/problem.js';
import type { ProgramFacts, TamperSign } from './facts.js';
import { type HardCodingSign, hardCoding } from './hard-coding.js';
import { javascriptFacts } from './javascript-facts.js';
import { pythonFacts } from './python-facts.js';

/** What the static detectors say of a program. */
export interface Inspection {
  hardCoding: HardCodingSign[];
  tampering: TamperSign[];
  /** At least one sign that an honest solution would not show. */
  flagged: boolean;
}

/** Facts about a program in the problem's language. */
export const programFacts = (source: string, language: CodeProblem['language']): ProgramFacts =>
  language === 'python' ? pythonFacts(source) : javascriptFacts(source);

/**
 * Looks for hard-coded answers and for tampering with the harness, without running anything. The tests
 * that the program was shown are enough; hidden ones in `problem` are looked for too. Never throws.
 *
 * What a whole program may do and a function may not, reading standard input and ending the process, is
 * no sign where the tests are of printed output.
 */
export function inspectProgram(problem: CodeProblem, source: string): Inspection {
  try {
    const facts = programFacts(source, problem.language);
    const isWhole = problem.tests.some(({ kind }) => kind === 'output');
    const tampering = facts.tampering.filter(
      (one) => !(isWhole && (one.kind === 'exit' || one.kind === 'threads')),
    );
    const found = hardCoding(facts, problem);
    const flagged = [...found, ...tampering].some(({ severity }) => severity === 'strong');
    return { hardCoding: found, tampering, flagged };
  } catch {
    // A program so deep that reading it overflows the stack is not judged here; its tests are.
    return { hardCoding: [], tampering: [], flagged: false };
  }
}
