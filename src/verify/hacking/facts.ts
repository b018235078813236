import type { Wire } from '../sandbox/plain.js';

/** Something in a program that reaches for the test harness instead of solving the problem. */
export interface TamperSign {
  kind:
    | 'exit'
    | 'skip'
    | 'equality'
    | 'frames'
    | 'monkeypatch'
    | 'files'
    | 'process'
    | 'clock'
    | 'environment'
    | 'threads'
    | 'dynamic-code';
  /** `strong`: an honest solution has no use for it; `weak`: worth a look. */
  severity: 'strong' | 'weak';
  /** Line of the program, from 1. */
  line: number;
  /** The source there, at most 100 characters. */
  text: string;
}

/** A way through a program: what its conditions compare with, and what it then gives. */
export interface Branch {
  keys: Wire[];
  values: Wire[];
}

/** What the detectors ask of a program, the same for all languages. */
export interface ProgramFacts {
  branches: Branch[];
  /** Pairs of a dictionary or of a list of pairs, one list for each. */
  tables: [key: Wire, value: Wire][][];
  /** Items of list and tuple literals, one list for each. */
  sequences: Wire[][];
  /** Every literal, nested ones included. */
  literals: Wire[];
  /** Names of functions and methods that are called. */
  calls: Set<string>;
  tampering: TamperSign[];
}

export const noFacts = (): ProgramFacts => ({
  branches: [],
  tables: [],
  sequences: [],
  literals: [],
  calls: new Set(),
  tampering: [],
});

/** Adds a literal with everything inside it. */
export function noteLiteral(facts: ProgramFacts, value: Wire): void {
  facts.literals.push(value);
  if (!Array.isArray(value)) return;
  if (value[0] === 'l' || value[0] === 't' || value[0] === 's') {
    facts.sequences.push(value[1]);
    const pairs = value[1].filter((one): one is ['l' | 't', Wire[]] => isPair(one));
    if (pairs.length > 0) facts.tables.push(pairs.map((one) => [one[1][0]!, one[1][1]!]));
    for (const one of value[1]) noteLiteral(facts, one);
  } else if (value[0] === 'd') {
    facts.tables.push(value[1]);
    for (const [key, one] of value[1]) {
      noteLiteral(facts, key);
      noteLiteral(facts, one);
    }
  }
}

const isPair = (value: Wire): boolean =>
  Array.isArray(value) && (value[0] === 'l' || value[0] === 't') && value[1].length === 2;

/** The parts that a compound key compares with: itself, and the items of a list that `in` looks through. */
export function keyParts(value: Wire): Wire[] {
  if (Array.isArray(value) && (value[0] === 'l' || value[0] === 't' || value[0] === 's'))
    return [value, ...value[1].flatMap((one) => [one, ...(isPair(one) ? (one as ['l', Wire[]])[1] : [])])];
  return [value];
}
