import { canonical, parseInteger, type Wire } from '../sandbox/plain.js';

/** Numbers in 0 … 1 from a seed, the same on every machine (mulberry32). */
export function seeded(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Draws from 0 … 1.
type Random = () => number;

/** One of a list. */
const pick = <T>(random: Random, from: readonly T[]): T => from[Math.floor(random() * from.length)]!;

/** Letters of the class of one: a program that takes words gets words. */
function similarLetter(random: Random, letter: string): string {
  if (/\d/.test(letter)) return String(Math.floor(random() * 10));
  if (/[a-z]/.test(letter)) return pick(random, [...'abcdefghijklmnopqrstuvwxyz']);
  if (/[A-Z]/.test(letter)) return pick(random, [...'ABCDEFGHIJKLMNOPQRSTUVWXYZ']);
  return letter;
}

/** A text of about the same letters, sometimes turned around or shorter. */
function similarText(random: Random, text: string): string {
  const letters = [...text].map((one) => (random() < 0.4 ? similarLetter(random, one) : one));
  const how = random();
  if (how < 0.15 && letters.length > 1) letters.reverse();
  else if (how < 0.3 && letters.length > 2) letters.splice(Math.floor(random() * letters.length), 1);
  return letters.join('');
}

/** Small steps keep sizes and signs: what a function demands of its arguments is mostly about those. */
function similarInteger(random: Random, text: string): Wire {
  const value = parseInteger(text);
  const size = Math.min(12, Math.abs(Number(value)));
  const step = BigInt(1 + Math.floor(random() * (4 + size)));
  const moved = random() < 0.5 && value > step ? value - step : value + step;
  return ['i', String(value < 0n ? -(-value + step) : moved)];
}

/** Items of the same kinds, sometimes in another order, fewer or more. */
function similarItems(random: Random, items: readonly Wire[]): Wire[] {
  const changed = items.map((one) => (random() < 0.6 ? similar(random, one) : one));
  const how = random();
  if (how < 0.2) changed.reverse();
  else if (how < 0.35 && changed.length > 2) changed.pop();
  else if (how < 0.5 && changed.length > 0) changed.push(pick(random, changed));
  return changed;
}

/** A value of the same type and about the same size. */
function similar(random: Random, value: Wire): Wire {
  if (value === null) return null;
  if (typeof value === 'boolean') return random() < 0.5;
  if (typeof value === 'string') return similarText(random, value);
  switch (value[0]) {
    case 'i':
      return similarInteger(random, value[1]);
    case 'f': {
      const number = Number(value[1]);
      return Number.isFinite(number) ? ['f', String(number + Math.ceil(random() * 8) / 4)] : value;
    }
    case 'l':
    case 's':
      return [value[0], similarItems(random, value[1])];
    case 't':
      // A tuple's length mostly means something.
      return ['t', value[1].map((one) => similar(random, one))];
    case 'd':
      return ['d', value[1].map(([key, one]) => [key, similar(random, one)])];
    default:
      return value;
  }
}

/**
 * Inputs like the given ones and none of them, from a seed: as many as `count`, fewer where the types allow fewer
 * (a function of one truth value has two).
 */
export function freshInputs(given: readonly (readonly Wire[])[], count: number, seed: number): Wire[][] {
  const random = seeded(seed);
  const known = new Set(given.map((args) => canonical(['t', [...args]])));
  const found: Wire[][] = [];
  for (let tries = 0; given.length > 0 && found.length < count && tries < 20 * count; tries++) {
    const args = pick(random, given).map((one) => similar(random, one));
    const form = canonical(['t', args]);
    if (known.has(form)) continue;
    known.add(form);
    found.push(args);
  }
  return found;
}
