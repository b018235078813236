/** Two or more numbers that divide a range into round steps, at most about `count` of them. */
export function ticks(low: number, high: number, count: number): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  // Multiples of the step, not sums: sums of 0.1 drift.
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** A number for an axis: 12k, 3.5M, 0.002. */
export function tickText(value: number): string {
  const size = Math.abs(value);
  for (const [unit, letter] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e4, 'k'],
  ] as const) {
    if (size >= unit) {
      const scale = letter === 'k' ? 1e3 : unit;
      return `${Number((value / scale).toPrecision(4))}${letter}`;
    }
  }
  return size !== 0 && size < 1e-3
    ? value.toExponential().replace('e-', 'e-')
    : String(Number(value.toPrecision(4)));
}

/** Smallest and largest of the finite values; a little space around a single one. */
export function rangeOf(values: readonly number[]): [number, number] {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  const space = high > low ? 0 : Math.abs(low) * 0.1 || 1;
  return [low - space, high + space];
}

/** Bit of each of the 2 x 4 dots of a braille character, by column and row. */
const dots = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;

/**
 * Points as a curve of braille characters with an axis, for a terminal:
 *
 *     3.21 ┤⡇
 *          │⠱⣀
 *     1.49 ┤  ⠉⠒⠤⣀⣀
 *          └────────
 *           0     2000
 *
 * Neighbours are joined by lines; values that are not finite leave a gap.
 * @param size of the plot itself in characters. Default 60 x 10.
 */
export function drawCurve(
  steps: readonly number[],
  values: readonly number[],
  size: { width?: number; height?: number } = {},
): string {
  const { width = 60, height = 10 } = size;
  const [left, right] = rangeOf(steps);
  const [low, high] = rangeOf(values);
  const cells = Array.from({ length: height }, () => new Uint8Array(width));
  const set = (x: number, y: number) => {
    cells[y >> 2]![x >> 1]! |= dots[x & 1]![y & 3]!;
  };
  let before: [number, number] | undefined;
  steps.forEach((step, i) => {
    const value = values[i]!;
    if (!Number.isFinite(value)) {
      before = undefined;
      return;
    }
    const x = Math.round(((step - left) / (right - left)) * (2 * width - 1));
    const y = Math.round(((high - value) / (high - low)) * (4 * height - 1));
    const [x0, y0] = before ?? [x, y];
    const length = Math.max(1, Math.abs(x - x0), Math.abs(y - y0));
    for (let k = 0; k <= length; k++) {
      set(Math.round(x0 + ((x - x0) * k) / length), Math.round(y0 + ((y - y0) * k) / length));
    }
    before = [x, y];
  });
  const labels = cells.map((_, row) =>
    row === 0 ? tickText(high) : row === height - 1 ? tickText(low) : '',
  );
  const indent = Math.max(...labels.map((label) => label.length));
  const lines = cells.map((row, i) => {
    const text = String.fromCharCode(...Array.from(row, (bits) => 0x2800 + bits)).replace(/\u2800+$/, '');
    return `${labels[i]!.padStart(indent)} ${labels[i] ? '┤' : '│'}${text}`;
  });
  const [first, last] = [tickText(left), tickText(right)];
  const space = ' '.repeat(indent + 2);
  const gap = ' '.repeat(Math.max(1, width - first.length - last.length));
  return [...lines, `${' '.repeat(indent + 1)}└${'─'.repeat(width)}`, `${space}${first}${gap}${last}`].join(
    '\n',
  );
}
