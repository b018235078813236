/** The words of a text as a set: tables of names read better in rows than in columns. */
export const wordSet = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/));

/** Names of functions, as commands or words. */
export const functionNames = wordSet(`
  sin cos tan cot sec csc arcsin arccos arctan arccot asin acos atan sinh cosh tanh ln log lg exp sqrt abs
  min max gcd lcm mod deg arg Re Im tg ctg arctg
`);

/**
 * Units by kind, each with its size in the base of its kind. Kinds are multiplied and divided by their exponents, so that
 * km/h and m/s are both length per time. Currencies are kinds of their own: rates of exchange are no mathematics.
 * Plurals are derived; "inche" is what is left of "inches".
 */
const sizes: Record<string, Readonly<Record<string, number>>> = {
  length: {
    m: 1,
    cm: 0.01,
    mm: 0.001,
    km: 1000,
    meter: 1,
    metre: 1,
    centimeter: 0.01,
    kilometer: 1000,
    inch: 0.0254,
    in: 0.0254,
    inche: 0.0254,
    ft: 0.3048,
    foot: 0.3048,
    feet: 0.3048,
    mile: 1609.344,
    mi: 1609.344,
    yard: 0.9144,
  },
  mass: { g: 1, kg: 1000, mg: 0.001, gram: 1, kilogram: 1000, lb: 453.59237, pound: 453.59237 },
  time: {
    s: 1,
    sec: 1,
    second: 1,
    min: 60,
    minute: 60,
    h: 3600,
    hr: 3600,
    hour: 3600,
    day: 86400,
    week: 604800,
    ms: 0.001,
  },
  volume: { l: 1, liter: 1, litre: 1, ml: 0.001, mL: 0.001, L: 1 },
  money: { cent: 0.01, dollar: 1, usd: 1, USD: 1, $: 1 },
  euro: { '€': 1, euro: 1 },
  sterling: { '£': 1 },
  yen: { '¥': 1 },
  yuan: { yuan: 1 },
  force: { N: 1 },
  energy: { J: 1, kJ: 1000 },
  power: { W: 1, kW: 1000 },
  voltage: { V: 1 },
  current: { A: 1 },
  frequency: { Hz: 1, kHz: 1000 },
  amount: { mol: 1 },
  temperature: { K: 1 },
  pressure: { Pa: 1, kPa: 1000, atm: 101325 },
  angle: { rad: 1, radian: 1 },
};

/** The same by name. */
const units = new Map(
  Object.entries(sizes).flatMap(([kind, names]) =>
    Object.entries(names).map(([name, size]) => [name, [kind, size] as const] as const),
  ),
);

function unitOf(name: string): readonly [string, number] | undefined {
  const lower = name.toLowerCase();
  return (
    units.get(name) ??
    units.get(lower) ??
    (lower.endsWith('s') && lower.length > 2 ? units.get(lower.slice(0, -1)) : undefined)
  );
}

export const isUnit = (name: string): boolean => unitOf(name) !== undefined;

/**
 * A unit such as "cm^2" or "km/h" as kinds with exponents, and its size; undefined where a part is no unit.
 * "square meters" and "meters per second" are understood.
 */
export function parseUnit(written: string): { kinds: string; size: number } | undefined {
  const plain = written
    .replace(/\bper\b/g, '/')
    .replace(/\b(?:square|sq\.?)\s+(\w+)/g, '$1^2')
    .replace(/\bcubic\s+(\w+)/g, '$1^3');
  const counts = new Map<string, number>();
  let size = 1;
  for (const { 0: part, 1: slash, 2: name = '', 3: exponent = '1' } of plain.matchAll(
    /(\/?)\s*([A-Za-z$€£¥]{1,20})\.?\s*(?:\^?\{?(-?\d)\}?)?/g,
  )) {
    const unit = part ? unitOf(name) : undefined;
    if (!unit) return undefined;
    const power = Number(exponent) * (slash ? -1 : 1);
    counts.set(unit[0], (counts.get(unit[0]) ?? 0) + power);
    size *= unit[1] ** power;
  }
  if (counts.size === 0) return undefined;
  return {
    kinds: [...counts]
      .sort()
      .map(([kind, power]) => `${kind}^${power}`)
      .join(' '),
    size,
  };
}

const numberWords = [...wordSet('zero one two three four five six seven eight nine ten eleven twelve')];

/** "three" → 3, up to twelve; "dozen" and larger are left to text. */
export function wordValue(word: string): number | undefined {
  const at = numberWords.indexOf(word);
  return at < 0 ? undefined : at;
}
