/** What counts as the same output of a program. */
import type { TextCompare } from './problem.js';

// White space at the ends of lines is invisible to whoever wrote the test.
const trimLines = (text: string) =>
  text
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
    .trim();

// Decimal notation only: "0x10" and "inf" are words.
const decimal = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;

/** Two words, as numbers where both are. */
function sameToken(a: string, b: string, tolerance: number): boolean {
  if (a === b) return true;
  if (!decimal.test(a) || !decimal.test(b)) return false;
  if (/^[-+]?\d+$/.test(a) && /^[-+]?\d+$/.test(b)) {
    // Whole numbers are exact, whatever their size.
    return BigInt(a.replace('+', '')) === BigInt(b.replace('+', ''));
  }
  const [x, y] = [Number(a), Number(b)];
  return Math.abs(x - y) <= tolerance * Math.max(1, Math.abs(x), Math.abs(y));
}

/** Whether what a program printed counts as what was expected. A checker that throws says no. */
export function samePrinted(
  output: string,
  expected: string,
  input: string,
  options: TextCompare = {},
): boolean {
  const { mode = 'lines', tolerance = 0, checker } = options;
  if (checker) {
    try {
      return checker(output, input) === true;
    } catch {
      return false;
    }
  }
  if (mode === 'exact') return output === expected;
  if (mode === 'lines') return trimLines(output) === trimLines(expected);
  const words = (text: string) => text.split(/\s+/).filter(Boolean);
  const [found, wanted] = [words(output), words(expected)];
  return found.length === wanted.length && found.every((one, i) => sameToken(one, wanted[i]!, tolerance));
}
