/** What a program came to: a value, or why it has none. */
export type RunResult =
  | { readonly ok: true; readonly value: number; readonly stack: readonly number[]; readonly steps: number }
  | {
      readonly ok: false;
      readonly reason: 'syntax' | 'underflow' | 'overflow' | 'step-limit' | 'empty';
      readonly steps: number;
    };

/** How much one program may do. */
export interface RunLimits {
  /** Instructions executed. Default 200. */
  steps?: number;
  /** Largest magnitude of a value. Default 1e9. */
  magnitude?: number;
  /** Deepest stack. Default 64. */
  depth?: number;
}

/** Thrown by an instruction that cannot be executed. */
class Stop extends Error {
  constructor(readonly reason: 'underflow' | 'overflow' | 'step-limit') {
    super(reason);
  }
}

/** Instructions that read the stack's top values and push others; the last argument is the top. */
const instructions: Readonly<Record<string, { takes: number; gives: (...values: number[]) => number[] }>> = {
  d: { takes: 1, gives: (a) => [a!, a!] },
  x: { takes: 1, gives: () => [] },
  s: { takes: 2, gives: (a, b) => [b!, a!] },
  o: { takes: 2, gives: (a, b) => [a!, b!, a!] },
  n: { takes: 1, gives: (a) => [-a!] },
  '+': { takes: 2, gives: (a, b) => [a! + b!] },
  '-': { takes: 2, gives: (a, b) => [a! - b!] },
  '*': { takes: 2, gives: (a, b) => [a! * b!] },
};

/** All instructions: digits push themselves, `[` … `]` takes a number and repeats what is inside that often. */
export const instructionLetters = [...'0123456789', ...Object.keys(instructions), '[', ']'];

/** A program's top-level parts: instructions, and loops as a whole; undefined for what is no program. */
export function programParts(program: string): string[] | undefined {
  const parts: string[] = [];
  let depth = 0;
  for (const letter of program) {
    if (!instructionLetters.includes(letter)) return undefined;
    if (letter === ']') depth--;
    if (depth < 0) return undefined;
    if (depth > 0 || letter === ']') parts[parts.length - 1] += letter;
    else parts.push(letter);
    if (letter === '[') depth++;
  }
  return depth === 0 ? parts : undefined;
}

/**
 * Runs a program of the stack language: it starts with `input` on the stack and its value is the top at the end.
 *
 * | letter | does | letter | does |
 * | --- | --- | --- | --- |
 * | 0 … 9 | push the digit | `+ - *` | a b → a ∘ b |
 * | d | a → a a | x | a → |
 * | s | a b → b a | o | a b → a b a |
 * | n | a → −a | `[…]` | n → repeat the inside n times |
 *
 * Deterministic, never throws, and ends within the limits, whatever the program is.
 */
export function runProgram(program: string, input: number, limits: RunLimits = {}): RunResult {
  const { steps: most = 200, magnitude = 1e9, depth = 64 } = limits;
  const stack = [input];
  let steps = 0;
  const take = (n: number): number[] => {
    if (stack.length < n) throw new Stop('underflow');
    return stack.splice(stack.length - n, n);
  };
  const execute = (parts: readonly string[]): void => {
    for (const part of parts) {
      if (++steps > most) throw new Stop('step-limit');
      if (part.startsWith('[')) {
        const [times] = take(1);
        const inside = programParts(part.slice(1, -1))!;
        // An empty body costs nothing, so the count itself is charged.
        for (let i = 0; i < times!; i++) {
          if (++steps > most) throw new Stop('step-limit');
          execute(inside);
        }
        continue;
      }
      const instruction = instructions[part];
      stack.push(...(instruction ? instruction.gives(...take(instruction.takes)) : [Number(part)]));
      if (stack.length > depth || Math.abs(stack.at(-1) ?? 0) > magnitude) throw new Stop('overflow');
    }
  };
  const parts = program.length > 1000 ? undefined : programParts(program);
  if (!parts) return { ok: false, reason: 'syntax', steps };
  try {
    execute(parts);
  } catch (error) {
    if (error instanceof Stop) return { ok: false, reason: error.reason, steps };
    throw error;
  }
  if (!stack.length) return { ok: false, reason: 'empty', steps };
  // No negative zero: it would print as 0 and compare as another value.
  return { ok: true, value: stack.at(-1)! + 0, stack: stack.map((value) => value + 0), steps };
}
