/** Scores as tables, beside the published ones. */
import type { Interval } from '../../evaluate/metrics.js';
import { type BenchItem, type BenchSet, typeNames } from './items.js';
import { type PublishedScores, publishedRows, publishedSizes } from './published.js';
import type { BenchRecord } from './run.js';
import { type BenchScores, benchScores, benchTimes, type Times } from './scores.js';

/** A run on VerifyBench in numbers. */
export interface BenchReport {
  verifier: string;
  /** Whether the verifier had the reference. */
  usesReference: boolean;
  set?: BenchSet;
  all: BenchScores;
  types: Record<string, BenchScores>;
  subtypes: Record<string, BenchScores>;
  domains: Record<string, BenchScores>;
  /** Accuracy of a verifier that always says no, and of one that always says yes, on the same items. */
  constant: { no: number; yes: number };
  /** Items on which the verifier itself failed; they are in no score. */
  failed: { id: string; reason: string }[];
  /** Items by reason of the verdict. */
  reasons: Record<string, number>;
  times: Times;
}

export interface ReportOptions {
  verifier: string;
  /** Default true. */
  usesReference?: boolean;
  set?: BenchSet | undefined;
  /** Of the intervals. Default 0.95. */
  confidence?: number;
}

/** Scores of each group, groups in alphabetical order. */
function grouped(
  records: readonly BenchRecord[],
  keyOf: (record: BenchRecord) => string | undefined,
  confidence: number | undefined,
): Record<string, BenchScores> {
  const groups = new Map<string, BenchRecord[]>();
  for (const record of records) {
    const key = keyOf(record);
    if (key !== undefined) groups.set(key, [...(groups.get(key) ?? []), record]);
  }
  return Object.fromEntries(
    [...groups]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, group]) => [key, benchScores(group, confidence)]),
  );
}

/** Makes a report of the records of a run. */
export function benchReport(records: readonly BenchRecord[], options: ReportOptions): BenchReport {
  const { verifier, usesReference = true, set, confidence } = options;
  // An item on which the verifier broke down says nothing of its judgment; it is listed apart.
  const judged = records.filter(({ verdict }) => verdict !== 'failed');
  const right = judged.filter(({ expected }) => expected === 'correct').length;
  const reasons = new Map<string, number>();
  for (const { verdict, reason } of judged) {
    const key = `${verdict}: ${reason}`;
    reasons.set(key, (reasons.get(key) ?? 0) + 1);
  }
  return {
    verifier,
    usesReference,
    ...(set && { set }),
    all: benchScores(records, confidence),
    types: grouped(judged, ({ type }) => type, confidence),
    subtypes: grouped(judged, ({ subtype }) => subtype, confidence),
    domains: grouped(judged, ({ domain }) => domain, confidence),
    constant: { no: (judged.length - right) / judged.length, yes: right / judged.length },
    failed: records.filter(({ verdict }) => verdict === 'failed').map(({ id, reason }) => ({ id, reason })),
    reasons: Object.fromEntries([...reasons].sort(([, a], [, b]) => b - a)),
    times: benchTimes(records),
  };
}

/** A table: its head, and rows of texts. */
export interface BenchTable {
  head: string[];
  rows: string[][];
}

// No items, no share: an empty group is a dash, not zero per cent.
const percent = (share: number) => (Number.isNaN(share) ? '–' : (100 * share).toFixed(2));
const withEnds = ({ value, low, high }: Interval) =>
  Number.isNaN(value) ? '–' : `${percent(value)} (${percent(low)} … ${percent(high)})`;

const scoreRow = (name: string, scores: BenchScores): string[] => [
  name,
  String(scores.items),
  withEnds(scores.accuracy),
  percent(scores.coverage.value),
  percent(scores.precision.value),
  percent(scores.recall.value),
  percent(scores.f1.value),
  String(scores.falsePositive),
  String(scores.falseNegative),
];

/** Per cent over all items, by type, by subtype and by domain; false accepts and false rejects as counts. */
export function scoresTable({ all, types, subtypes, domains }: BenchReport): BenchTable {
  const rowsOf = (groups: Record<string, BenchScores>) =>
    Object.entries(groups).map(([name, scores]) => scoreRow(name, scores));
  return {
    head: [
      'items',
      'count',
      'accuracy (interval)',
      'coverage',
      'precision',
      'recall',
      'F1',
      'false accepts',
      'false rejects',
    ],
    rows: [scoreRow('all', all), ...rowsOf(types), ...rowsOf(subtypes), ...rowsOf(domains)],
  };
}

const publishedRow = (name: string, { numeric, expressions, choice, text, all }: PublishedScores) => [
  name,
  ...[numeric, expressions, choice, text, all].map((value) => (value === undefined ? '' : value.toFixed(2))),
  '',
];

/**
 * The run beside the paper's rows for the same set and protocol, best first. Published rows without reference are of
 * the standard set. Undefined where nothing comparable is published.
 */
export function comparisonTable(report: BenchReport): BenchTable | undefined {
  const { set, usesReference, all, types } = report;
  if (!set || (set === 'hard' && !usesReference)) return undefined;
  const accuracyOf = (type: string) => (types[type] ? percent(types[type].accuracy.value) : '');
  const own = [
    `${report.verifier} (this run)`,
    ...typeNames.map(accuracyOf),
    percent(all.accuracy.value),
    percent(all.coverage.value),
  ];
  const published = publishedRows.flatMap((row) => {
    const scores = usesReference
      ? row[set]
      : row.withoutReference === undefined
        ? undefined
        : { all: row.withoutReference };
    return scores ? [{ all: scores.all, row: publishedRow(row.verifier, scores) }] : [];
  });
  const rows = [{ all: 100 * all.accuracy.value, row: own }, ...published].sort((a, b) => b.all - a.all);
  return {
    head: ['verifier', 'numeric', 'expressions', 'choice', 'string', 'all', 'coverage'],
    rows: rows.map(({ row }) => row),
  };
}

/** What has to be said along with the numbers. */
export function reportNotes(report: BenchReport, items: readonly BenchItem[]): string[] {
  const { all, set, constant, failed, usesReference } = report;
  const whole = set && publishedSizes[set];
  const right = items.filter(({ expected }) => expected).length;
  // Size and share of right answers: another split of the same size would show.
  const isWhole = whole && whole.items === items.length && whole.right === right;
  return [
    `${all.items} items, ${all.abstainedPositive + all.abstainedNegative} abstentions; always no scores ${percent(constant.no)}, always yes ${percent(constant.yes)}`,
    `accuracy counts an abstention as wrong, as the paper does; read as "no" it is ${percent(all.accuracyAbstainIsNo.value)}, over decided items ${percent(all.accuracyDecided.value)}`,
    ...(usesReference ? [] : ['the verifier did not see the reference']),
    ...(whole && !isWhole
      ? [
          `published rows are of all ${whole.items} items of which ${whole.right} are right; these are ${items.length} with ${right}`,
        ]
      : []),
    ...(failed.length > 0
      ? [`${failed.length} items have no verdict because the verifier failed; they are in no score`]
      : []),
  ];
}
