/**
 * Plain values between a sandbox and the host, as JSON with tags. Only exact built-in types cross: an object
 * that overrides equality, a subclass or a function arrives as `['x', type name]` and equals nothing.
 *
 * | wire | Python | JavaScript |
 * | --- | --- | --- |
 * | null, true, false, string | None, bool, str | null, boolean, string |
 * | ['i', digits or 0x…] | int | bigint |
 * | ['f', repr] | float | number |
 * | ['l', items] | list | Array |
 * | ['t', items] | tuple | – |
 * | ['s', items] | set, frozenset | Set |
 * | ['d', pairs] | dict | plain object, Map |
 * | ['b', hex] | bytes, bytearray | Uint8Array |
 * | ['c', real, imaginary] | complex | – |
 * | ['u'] | – | undefined |
 * | ['x', type] | anything else | anything else |
 *
 * Python's iterators of built-in types arrive as lists, `defaultdict`, `Counter` and `OrderedDict` as dictionaries,
 * `deque` as a list, a match of a regular expression as the tuple of what matched and its groups.
 */
export type Wire =
  | null
  | boolean
  | string
  | ['i' | 'f' | 'b' | 'x', string]
  | ['l' | 't' | 's', Wire[]]
  | ['d', [Wire, Wire][]]
  | ['c', string, string]
  | ['u'];

/** A JSON value, for tests that are written by hand. A `bigint` is an integer of any size. */
export type Json =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** Tags a JSON value. Whole numbers become integers, as JSON readers of Python do. */
export function toWire(value: Json): Wire {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'bigint') return ['i', String(value)];
  if (typeof value === 'number')
    return Number.isSafeInteger(value) && !Object.is(value, -0) ? ['i', String(value)] : ['f', String(value)];
  if (Array.isArray(value)) return ['l', value.map((one: Json) => toWire(one))];
  return ['d', Object.entries(value as Record<string, Json>).map(([key, one]) => [key, toWire(one)])];
}

/** How two values are held against each other. */
export interface CompareOptions {
  /** Largest relative or absolute difference of numbers that count as equal; default 0. */
  tolerance?: number;
  /** A tuple equals a list of the same items, as after a trip through JSON; default true. */
  tuplesAreLists?: boolean;
  /** The order of the outermost list does not matter. */
  unordered?: boolean;
}

const nan = Number.NaN;
const specials: Record<string, number> = {
  inf: Number.POSITIVE_INFINITY,
  '-inf': Number.NEGATIVE_INFINITY,
  nan,
};

/** The float that a wire form writes; Python and JavaScript spell the special ones differently. */
export const parseFloatWire = (text: string): number => specials[text.toLowerCase()] ?? Number(text);

/** The integer that a wire form writes: decimal, or hexadecimal with a sign in front. */
export function parseInteger(text: string): bigint {
  return text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text);
}

const isNumber = (value: Wire): value is ['i' | 'f', string] =>
  Array.isArray(value) && (value[0] === 'i' || value[0] === 'f');

const booleanAsNumber = (value: Wire): Wire =>
  typeof value === 'boolean' ? ['i', value ? '1' : '0'] : value;

function sameNumber(a: ['i' | 'f', string], b: ['i' | 'f', string], tolerance: number): boolean {
  if (a[0] === 'i' && b[0] === 'i' && tolerance === 0) return parseInteger(a[1]) === parseInteger(b[1]);
  const asFloat = (one: ['i' | 'f', string]) =>
    one[0] === 'i' ? Number(parseInteger(one[1])) : parseFloatWire(one[1]);
  const [x, y] = [asFloat(a), asFloat(b)];
  if (x === y) {
    // A float equals an integer only if it is exactly that integer, also beyond 2^53.
    if (a[0] === b[0] || !Number.isFinite(x)) return a[0] === b[0];
    const integer = parseInteger(a[0] === 'i' ? a[1] : b[1]);
    return tolerance > 0 || BigInt(x) === integer;
  }
  if (Number.isNaN(x) && Number.isNaN(y)) return true;
  return Math.abs(x - y) <= tolerance * Math.max(1, Math.abs(x), Math.abs(y));
}

/** Whether every item of `a` finds a partner of its own in `b`: matching by augmenting paths, for tolerances. */
function sameUnordered(a: readonly Wire[], b: readonly Wire[], options: CompareOptions): boolean {
  if (a.length !== b.length) return false;
  if (!options.tolerance) return sameMultiset(a, b);
  const partner = new Array<number>(b.length).fill(-1);
  const seat = (i: number, seen: Set<number>): boolean => {
    for (let j = 0; j < b.length; j++) {
      if (seen.has(j) || !sameValue(a[i]!, b[j]!, options)) continue;
      seen.add(j);
      if (partner[j] === -1 || seat(partner[j]!, seen)) {
        partner[j] = i;
        return true;
      }
    }
    return false;
  };
  return a.every((_, i) => seat(i, new Set()));
}

function sameMultiset(a: readonly Wire[], b: readonly Wire[]): boolean {
  const counts = new Map<string, number>();
  for (const one of a) counts.set(canonical(one), (counts.get(canonical(one)) ?? 0) + 1);
  return b.every((one) => {
    const left = counts.get(canonical(one)) ?? 0;
    counts.set(canonical(one), left - 1);
    return left > 0;
  });
}

/** A text that equal values share. Keys of dictionaries and members of sets are sorted. */
export function canonical(value: Wire): string {
  if (value === null || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'boolean') return value ? 'i1' : 'i0';
  switch (value[0]) {
    case 'i':
      return `i${parseInteger(value[1])}`;
    case 'f': {
      const x = parseFloatWire(value[1]);
      return Number.isInteger(x) ? `i${BigInt(x)}` : `f${x}`;
    }
    case 'l':
    case 't':
      return `[${value[1].map(canonical).join()}]`;
    case 's':
      return `{${value[1].map(canonical).sort().join()}}`;
    case 'd':
      return `<${value[1]
        .map(([key, one]) => `${canonical(key)}:${canonical(one)}`)
        .sort()
        .join()}>`;
    default:
      return JSON.stringify(value);
  }
}

/**
 * Whether two plain values are equal, by the rules of Python's `==` on exact built-in types (1 == 1.0 == True),
 * except that NaN equals NaN. What is not plain equals nothing, itself included.
 */
export function sameValue(a: Wire, b: Wire, options: CompareOptions = {}): boolean {
  const { tolerance = 0, tuplesAreLists = true } = options;
  const [x, y] = [booleanAsNumber(a), booleanAsNumber(b)];
  if (isNumber(x) && isNumber(y)) return sameNumber(x, y, tolerance);
  if (!Array.isArray(x) || !Array.isArray(y)) return x === y;
  if (x[0] === 'x' || y[0] === 'x') return false;
  const inner: CompareOptions = { tolerance, tuplesAreLists };
  const isSequence = (one: Wire[] | Wire): one is ['l' | 't', Wire[]] =>
    Array.isArray(one) && (one[0] === 'l' || one[0] === 't');
  if (isSequence(x) && isSequence(y)) {
    if (x[0] !== y[0] && !tuplesAreLists) return false;
    if (options.unordered) return sameUnordered(x[1], y[1], inner);
    return x[1].length === y[1].length && x[1].every((one, i) => sameValue(one, y[1][i]!, inner));
  }
  if (x[0] !== y[0]) return false;
  if (x[0] === 's') return sameUnordered(x[1], (y as ['s', Wire[]])[1], inner);
  if (x[0] === 'd') {
    const pairs = (one: ['d', [Wire, Wire][]]): Wire[] => one[1].map((pair) => ['l', pair]);
    return sameUnordered(pairs(x), pairs(y as ['d', [Wire, Wire][]]), inner);
  }
  if (x[0] === 'c') {
    const z = y as ['c', string, string];
    return [1, 2].every((i) => sameNumber(['f', x[i] as string], ['f', z[i] as string], tolerance));
  }
  return JSON.stringify(x) === JSON.stringify(y);
}

/** Whether a value holds anything that is not plain. */
export function isPlain(value: Wire): boolean {
  if (!Array.isArray(value)) return true;
  if (value[0] === 'x') return false;
  if (value[0] === 'd') return value[1].every(([key, one]) => isPlain(key) && isPlain(one));
  if (value[0] === 'l' || value[0] === 't' || value[0] === 's') return value[1].every(isPlain);
  return true;
}

/** A short text for reports. */
export function showWire(value: Wire, length = 200): string {
  const text = write(value);
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

function write(value: Wire): string {
  if (!Array.isArray(value)) return JSON.stringify(value);
  switch (value[0]) {
    case 'i':
      return String(parseInteger(value[1]));
    case 'f':
      return value[1];
    case 'l':
      return `[${value[1].map(write).join(', ')}]`;
    case 't':
      return `(${value[1].map(write).join(', ')})`;
    case 's':
      return `{${value[1].map(write).join(', ')}}`;
    case 'd':
      return `{${value[1].map(([key, one]) => `${write(key)}: ${write(one)}`).join(', ')}}`;
    case 'c':
      return `${value[1]}+${value[2]}j`;
    case 'b':
      return `0x${value[1]}`;
    case 'u':
      return 'undefined';
    default:
      return `<${value[1]}>`;
  }
}
