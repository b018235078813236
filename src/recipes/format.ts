import { flattened } from './overrides.js';
import type { Quantity } from './recipe.js';

const prefixes = ['', 'k', 'M', 'G', 'T', 'P', 'E'];

/** Three digits and a power of a thousand: 807040 → `807 k`, 1.5e12 → `1.50 T`. */
export function scaled(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  let power = Math.min(Math.max(Math.floor(Math.log10(Math.abs(value)) / 3), 0), prefixes.length - 1);
  // 999.7 rounds to 1000: one power up.
  if (Math.abs(value) / 1000 ** power >= 999.5 && power < prefixes.length - 1) power++;
  const mantissa = value / 1000 ** power;
  const digits =
    power === 0 && Number.isInteger(value)
      ? 0
      : Math.abs(mantissa) >= 100
        ? 0
        : Math.abs(mantissa) >= 10
          ? 1
          : 2;
  return `${mantissa.toFixed(digits)} ${prefixes[power]}`.trim();
}

/** A duration as a person says it: `45 s`, `2 min 3 s`, `1 h 20 min`. */
export function duration(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A derived number with its unit, for people. */
export function quantityText({ value, unit }: Quantity): string {
  switch (unit) {
    case 'seconds':
      return duration(value);
    case 'bytes':
      return /[kMGTPE]$/.test(scaled(value)) ? `${scaled(value)}B` : `${scaled(value)} B`;
    case 'FLOP':
      return /[kMGTPE]$/.test(scaled(value)) ? `${scaled(value)}FLOP` : `${scaled(value)} FLOP`;
    case 'nats':
      return value.toFixed(3);
    default:
      return Number.isInteger(value) ? value.toLocaleString('en') : scaled(value);
  }
}

/** `tokensPerStep` as words: `tokens per step`. */
export const words = (name: string) =>
  name.replace(/([a-z])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);

const valueText = (value: unknown): string =>
  typeof value === 'string' && /^[^\s"'{}[\]]+$/.test(value) ? value : JSON.stringify(value);

/** Fills lines of at most `width` characters with items, the first line after `head`, the others indented as far. */
function filled(head: string, items: readonly string[], width: number): string[] {
  const lines: string[] = [];
  let line = head;
  for (const item of items) {
    if (line.length + item.length + 1 > width && line.trim() !== '' && line !== head) {
      lines.push(line.trimEnd());
      line = ' '.repeat(head.length);
    }
    line += `${item} `;
  }
  return [...lines, line.trimEnd()];
}

/** The resolved config as lines, a group of settings each, written as overrides are: `model  layers=4 dim=128 …`. */
export function configLines(config: unknown, width = 100): string[] {
  const groups = new Map<string, string[]>();
  for (const [path, value] of flattened(config)) {
    const dot = path.indexOf('.');
    const group = dot < 0 ? '' : path.slice(0, dot);
    groups.set(group, [...(groups.get(group) ?? []), `${path.slice(dot + 1)}=${valueText(value)}`]);
  }
  const column = Math.max(0, ...[...groups.keys()].map((group) => group.length)) + 2;
  return [...groups].flatMap(([group, items]) => filled(`  ${group.padEnd(column)}`, items, width));
}

/** Derived numbers as one or more lines. */
export function derivedLines(derived: readonly Quantity[], width = 100): string[] {
  const items = derived.map((quantity) => `${words(quantity.name)} ${quantityText(quantity)}`);
  return filled(
    '  ',
    items.map((item, i) => (i < items.length - 1 ? `${item} ·` : item)),
    width,
  );
}
