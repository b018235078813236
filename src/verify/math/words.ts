/** Names of functions, as commands or words. */
export const functionNames = new Set([
  'sin',
  'cos',
  'tan',
  'cot',
  'sec',
  'csc',
  'arcsin',
  'arccos',
  'arctan',
  'arccot',
  'asin',
  'acos',
  'atan',
  'sinh',
  'cosh',
  'tanh',
  'ln',
  'log',
  'lg',
  'exp',
  'sqrt',
  'abs',
  'min',
  'max',
  'gcd',
  'lcm',
  'mod',
  'deg',
  'arg',
  'Re',
  'Im',
  'tg',
  'ctg',
  'arctg',
]);

/** Size of a unit in the base of its kind, and the kind. Multiplied and divided by their exponents. */
const units: Record<string, readonly [kind: string, size: number]> = {
  m: ['length', 1],
  cm: ['length', 0.01],
  mm: ['length', 0.001],
  km: ['length', 1000],
  meter: ['length', 1],
  metre: ['length', 1],
  centimeter: ['length', 0.01],
  kilometer: ['length', 1000],
  inch: ['length', 0.0254],
  in: ['length', 0.0254],
  inche: ['length', 0.0254],
  ft: ['length', 0.3048],
  foot: ['length', 0.3048],
  feet: ['length', 0.3048],
  mile: ['length', 1609.344],
  mi: ['length', 1609.344],
  yard: ['length', 0.9144],
  g: ['mass', 1],
  kg: ['mass', 1000],
  mg: ['mass', 0.001],
  gram: ['mass', 1],
  kilogram: ['mass', 1000],
  lb: ['mass', 453.59237],
  pound: ['mass', 453.59237],
  s: ['time', 1],
  sec: ['time', 1],
  second: ['time', 1],
  min: ['time', 60],
  minute: ['time', 60],
  h: ['time', 3600],
  hr: ['time', 3600],
  hour: ['time', 3600],
  day: ['time', 86400],
  week: ['time', 604800],
  ms: ['time', 0.001],
  l: ['volume', 1],
  liter: ['volume', 1],
  litre: ['volume', 1],
  ml: ['volume', 0.001],
  mL: ['volume', 0.001],
  L: ['volume', 1],
  cent: ['money', 0.01],
  dollar: ['money', 1],
  usd: ['money', 1],
  USD: ['money', 1],
  $: ['money', 1],
  '€': ['euro', 1],
  euro: ['euro', 1],
  '£': ['sterling', 1],
  '¥': ['yen', 1],
  yuan: ['yuan', 1],
  N: ['force', 1],
  J: ['energy', 1],
  kJ: ['energy', 1000],
  W: ['power', 1],
  kW: ['power', 1000],
  V: ['voltage', 1],
  A: ['current', 1],
  Hz: ['frequency', 1],
  kHz: ['frequency', 1000],
  mol: ['amount', 1],
  K: ['temperature', 1],
  Pa: ['pressure', 1],
  kPa: ['pressure', 1000],
  atm: ['pressure', 101325],
  rad: ['angle', 1],
  radian: ['angle', 1],
};

function unitOf(name: string): readonly [string, number] | undefined {
  const own = (key: string) => (Object.hasOwn(units, key) ? units[key] : undefined);
  const lower = name.toLowerCase();
  return (
    own(name) ?? own(lower) ?? (lower.endsWith('s') && lower.length > 2 ? own(lower.slice(0, -1)) : undefined)
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

const numberWords = [
  'zero',
  'one',
  'two',
  'three',
  'four',
  'five',
  'six',
  'seven',
  'eight',
  'nine',
  'ten',
  'eleven',
  'twelve',
];

/** "three" → 3, up to twelve; "dozen" and larger are left to text. */
export function wordValue(word: string): number | undefined {
  const at = numberWords.indexOf(word);
  return at < 0 ? undefined : at;
}
