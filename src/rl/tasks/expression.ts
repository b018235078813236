/** An exact fraction; the denominator is above 0 and shares no factor with the numerator. */
export interface Fraction {
  readonly n: number;
  readonly d: number;
}

/** What an arithmetic expression says: its value, undefined where it divides by zero, and the numbers in it. */
export interface Evaluated {
  readonly value: Fraction | undefined;
  readonly numbers: readonly number[];
}

const gcd = (a: number, b: number): number => (b === 0 ? Math.abs(a) : gcd(b, a % b));

/** n / d in lowest terms; undefined where it is no finite, exactly represented fraction. */
function fraction(n: number, d: number): Fraction | undefined {
  if (d === 0 || !Number.isSafeInteger(n) || !Number.isSafeInteger(d)) return undefined;
  const factor = gcd(n, d) * Math.sign(d);
  return { n: n / factor + 0, d: d / factor };
}

/** a `operator` b, exactly. */
export function operate(operator: string, a: Fraction, b: Fraction): Fraction | undefined {
  if (operator === '*') return fraction(a.n * b.n, a.d * b.d);
  if (operator === '/') return fraction(a.n * b.d, a.d * b.n);
  const sign = operator === '+' ? 1 : -1;
  return fraction(a.n * b.d + sign * b.n * a.d, a.d * b.d);
}

/** Longest expression that is read; the parser recurses, and a policy may write anything. */
const longest = 400;

/**
 * Reads an expression of whole numbers, `+ - * /`, brackets and spaces, with the usual precedence; no signs, no
 * numbers by juxtaposition. Undefined for any other text, also an overlong one.
 */
export function evaluateExpression(text: string): Evaluated | undefined {
  if (text.length > longest) return undefined;
  const tokens = text.match(/\d+|[^\s]/g) ?? [];
  const numbers: number[] = [];
  let at = 0;
  /** `null` says that the text is no expression; undefined that it has no value. */
  type Result = Fraction | undefined | null;

  const primary = (): Result => {
    const token = tokens[at++];
    if (token === '(') {
      const inside = level(0);
      return tokens[at++] === ')' ? inside : null;
    }
    if (token === undefined || !/^\d{1,15}$/.test(token)) return null;
    numbers.push(Number(token));
    return fraction(Number(token), 1);
  };
  const level = (precedence: 0 | 1): Result => {
    const next = () => (precedence === 0 ? level(1) : primary());
    let left = next();
    while (left !== null && (precedence === 0 ? '+-' : '*/').includes(tokens[at] ?? ' ')) {
      const operator = tokens[at++]!;
      const right = next();
      if (right === null) return null;
      left = left && right && operate(operator, left, right);
    }
    return left;
  };
  const value = level(0);
  return value === null || at !== tokens.length ? undefined : { value, numbers };
}
