import { type ChartLine, lineChart } from '../../train/index.js';
import { arms, bestRate, type MuonCell } from './muon-sweep.js';
import { type PairedDifference, pairedDifference } from './paired.js';

const text = (loss: number | null | undefined) =>
  loss === undefined ? '' : (loss?.toFixed(4) ?? 'diverged');
const signed = (x: number) => `${x < 0 ? '−' : '+'}${Math.abs(x).toFixed(4)}`;
const interval = ({ mean, low, high }: PairedDifference) =>
  `${signed(mean)} [${signed(low)}, ${signed(high)}]`;

const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');

/** Losses by arm (rows) and peak learning rate; the best of each arm in bold. */
function sweepTable(cells: readonly MuonCell[]): string {
  const sweep = cells.filter(({ phase }) => phase === 'sweep');
  const rates = [...new Set(sweep.map(({ rate }) => rate))].sort((a, b) => a - b);
  const rows = arms.map(({ name }) => {
    const best = bestRate(cells, name);
    const entries = rates.map((rate) => {
      const found = text(sweep.find((cell) => cell.arm === name && cell.rate === rate)?.loss);
      return rate === best && found !== '' ? `**${found}**` : found;
    });
    return [name, ...entries];
  });
  return table(['seed 0', ...rates.map(String)], rows);
}

/** Losses of an arm in the comparison, by seed. */
const lossesOf = (cells: readonly MuonCell[], arm: string) =>
  cells
    .filter((cell) => cell.phase === 'compare' && cell.arm === arm)
    .sort((a, b) => a.seed - b.seed)
    .map(({ loss }) => loss ?? Number.NaN);

function comparisonTable(cells: readonly MuonCell[]): string {
  const [jordan, adam] = ['Muon, Jordan', 'AdamW'].map((arm) => lossesOf(cells, arm)) as [number[], number[]];
  const rows = arms.map(({ name }) => {
    const losses = lossesOf(cells, name);
    const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    const against = (other: readonly number[], itself: string) =>
      name === itself ? '–' : interval(pairedDifference(losses, other));
    return [
      name,
      String(bestRate(cells, name)),
      `${mean.toFixed(4)} (${Math.min(...losses).toFixed(4)}–${Math.max(...losses).toFixed(4)})`,
      against(adam, 'AdamW'),
      against(jordan, 'Muon, Jordan'),
    ];
  });
  const head = ['optimiser', 'rate', 'loss, mean (range)', 'against AdamW', "against Jordan's"];
  return table(head, rows);
}

/** Both tables in Markdown: the sweep, and the comparison at the best rates with paired differences. */
export function muonTables(cells: readonly MuonCell[]): string {
  const seeds = new Set(cells.filter(({ phase }) => phase === 'compare').map(({ seed }) => seed)).size;
  return [
    '### Sweep: validation loss in nats a token, by peak learning rate',
    '',
    sweepTable(cells),
    '',
    `### Comparison: ${seeds} other seeds, each arm at its best rate`,
    '',
    comparisonTable(cells),
    '',
    'Differences are paired by seed, with 95 % intervals of Student’s t; below 0 the row is better.',
  ].join('\n');
}

/** Validation loss of each arm over the logarithm of the rate. */
export function sweepChart(cells: readonly MuonCell[]): string {
  const lines = arms.map(({ name }): ChartLine => {
    const own = cells
      .filter((cell) => cell.phase === 'sweep' && cell.arm === name && cell.loss !== null)
      .sort((a, b) => a.rate - b.rate);
    return {
      name: name.replace('Muon, ', ''),
      steps: own.map(({ rate }) => Math.log10(rate)),
      values: own.map(({ loss }) => loss!),
      hasDots: true,
    };
  });
  return lineChart({
    title: 'Validation loss',
    xLabel: 'log₁₀ of the peak learning rate',
    yLabel: 'nats a token',
    lines,
  });
}
