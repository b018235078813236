import { rangeOf, ticks, tickText } from './curve.js';

/** One line of a chart. */
export interface ChartLine {
  name: string;
  steps: readonly number[];
  values: readonly number[];
  /** Drawn behind and pale, without an entry in the legend: raw values behind their average. */
  isFaint?: boolean;
  /** Mark each point; for few points. */
  hasDots?: boolean;
}

/** What a chart shows. */
export interface Chart {
  title: string;
  xLabel: string;
  yLabel: string;
  lines: readonly ChartLine[];
}

const width = 720;
const height = 360;
const margin = { left: 64, right: 16, top: 40, bottom: 48 };
/** Greys and hues of middle lightness: contrast of 3.5 or more on white as well as on black. */
const ink = '#7d848c';
const colours = ['#3584e4', '#e66100', '#2b9a66', '#a347ba', '#a0791b', '#d0487c'];

/** More points than pixels are a waste of bytes: means of equal runs of neighbours. */
function thinned(line: ChartLine, limit = 600): { steps: number[]; values: number[] } {
  const points = line.steps.flatMap((step, i) =>
    Number.isFinite(line.values[i]) ? [[step, line.values[i]!] as const] : [],
  );
  const size = Math.ceil(points.length / limit);
  const out = { steps: [] as number[], values: [] as number[] };
  for (let i = 0; i < points.length; i += size) {
    const group = points.slice(i, i + size);
    out.steps.push(group.reduce((a, [step]) => a + step, 0) / group.length);
    out.values.push(group.reduce((a, [, value]) => a + value, 0) / group.length);
  }
  return out;
}

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);

const at = (value: number): string => Number(value.toFixed(1)).toString();

/** The part of the range that most values lie in: one wild value at the start must not flatten the rest. */
function spanOf(lines: readonly { values: readonly number[] }[]): [number, number] {
  const sorted = lines.flatMap(({ values }) => values).sort((a, b) => a - b);
  const [low, high] = rangeOf(sorted);
  const usual = sorted[Math.floor(0.98 * (sorted.length - 1))] ?? high;
  const top = high - low > 3 * (usual - low) && usual > low ? usual + 0.2 * (usual - low) : high;
  const space = 0.04 * (top - low);
  return [low - space, top + space];
}

/** The legend, from right to left in the title's row. */
function legend(lines: readonly ChartLine[], colourOf: (line: ChartLine) => string): string[] {
  let x = width - margin.right;
  return [...lines].reverse().flatMap((line) => {
    const text = `<text x="${x}" y="24" text-anchor="end">${escaped(line.name)}</text>`;
    // Text is about 6.6 px a character at this size; browsers differ by less than the gap.
    x -= 7 * line.name.length + 8;
    const mark = `<line x1="${x - 18}" y1="20" x2="${x}" y2="20" stroke="${colourOf(line)}" stroke-width="3"/>`;
    x -= 36;
    return [text, mark];
  });
}

/**
 * A line chart as an SVG document with axes, ticks, labels and a legend. It has no background and only colours of
 * middle lightness, so that it is legible on light and dark pages alike.
 */
export function lineChart({ title, xLabel, yLabel, lines }: Chart): string {
  const drawn = lines.map((line) => ({ line, ...thinned(line) }));
  const [left, right] = rangeOf(drawn.flatMap(({ steps }) => steps));
  const [low, high] = spanOf(drawn);
  const plot = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
  const x = (step: number) => margin.left + ((step - left) / (right - left)) * plot.width;
  const y = (value: number) =>
    margin.top + Math.max(0, Math.min(1, (high - value) / (high - low))) * plot.height;
  const named = lines.filter((line) => !line.isFaint);
  // A faint line has the colour of the line of its name.
  const colourOf = ({ name }: ChartLine) =>
    colours[
      Math.max(
        0,
        named.findIndex((line) => line.name === name),
      ) % colours.length
    ]!;
  const bottom = margin.top + plot.height;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(title)}" font-family="system-ui, sans-serif" font-size="12" fill="${ink}">`,
    `<text x="${margin.left}" y="24" font-size="14" font-weight="600">${escaped(title)}</text>`,
    ...legend(named.length > 1 ? named : [], colourOf),
  ];
  for (const value of ticks(low, high, 6)) {
    const py = at(y(value));
    parts.push(
      `<line x1="${margin.left}" y1="${py}" x2="${width - margin.right}" y2="${py}" stroke="${ink}" stroke-opacity="0.25"/>`,
      `<text x="${margin.left - 8}" y="${py}" dy="0.35em" text-anchor="end">${tickText(value)}</text>`,
    );
  }
  for (const value of ticks(left, right, 8)) {
    const px = at(x(value));
    parts.push(
      `<line x1="${px}" y1="${bottom}" x2="${px}" y2="${bottom + 5}" stroke="${ink}"/>`,
      `<text x="${px}" y="${bottom + 18}" text-anchor="middle">${tickText(value)}</text>`,
    );
  }
  parts.push(
    `<line x1="${margin.left}" y1="${bottom}" x2="${width - margin.right}" y2="${bottom}" stroke="${ink}"/>`,
    `<text x="${margin.left + plot.width / 2}" y="${height - 8}" text-anchor="middle">${escaped(xLabel)}</text>`,
    `<text transform="translate(16 ${margin.top + plot.height / 2}) rotate(-90)" text-anchor="middle">${escaped(yLabel)}</text>`,
  );
  for (const { line, steps, values } of drawn) {
    const colour = colourOf(line);
    const points = steps.map((step, i) => `${at(x(step))},${at(y(values[i]!))}`);
    const style = line.isFaint ? 'stroke-width="1" stroke-opacity="0.35"' : 'stroke-width="2"';
    parts.push(
      `<polyline fill="none" stroke="${colour}" ${style} stroke-linejoin="round" points="${points.join(' ')}"/>`,
    );
    if (!line.hasDots) continue;
    for (const point of points) {
      const [cx, cy] = point.split(',');
      parts.push(`<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`);
    }
  }
  return `${parts.join('\n')}\n</svg>\n`;
}
