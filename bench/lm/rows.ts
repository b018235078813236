/** The rows of the suite: what each promises, and how a duel becomes a row. */
import { makeRow, type Row, type RowSpec, ratio } from '../harness.js';
import type { DuelResult, SideName } from './duel.js';

type Claim = Pick<RowSpec, 'what' | 'unit' | 'better' | 'target'>;

const faster = (what: string, target: number): Claim => ({ what, unit: 'x', better: 'higher', target });
const below = (what: string, unit: string, target: number | null): Claim => ({
  what,
  unit,
  better: 'lower',
  target,
});

const shakespeare = "nanoGPT's example for a processor, tiny Shakespeare, 2,000 steps";

/** Every row of the suite, in order. */
export const CLAIMS = {
  'shakespeare-loss': below(
    "the recipe shakespeare (nanoGPT's example for a processor, with rotary positions and twice the rate): validation loss",
    'nats',
    1.88,
  ),
  'shakespeare-loss-exact': below(`${shakespeare}, its exact settings: validation loss`, 'nats', null),
  'shakespeare-time': below(`${shakespeare}: time against PyTorch eager`, 'x', 0.75),
  'gpt6-loss-gap': below(
    '10.7 M parameters, 6 layers, d 384, ctx 256: difference of loss to PyTorch after equal tokens',
    'nats',
    0.01,
  ),
  sampling: faster(
    'sampling, 128 sequences x 128 tokens, 4 layers, d 256: speed against PyTorch eager, static KV cache',
    2.5,
  ),
  'smollm2-prompt': faster('SmolLM2-135M float32, prompt of 512: speed against transformers', 1.5),
  'smollm2-decode': faster('SmolLM2-135M float32, decoding one stream: speed against transformers', 2.5),
  'smollm2-q4-prompt': faster('SmolLM2-135M 4-bit, prompt of 512: speed against llama.cpp', 2),
  'smollm2-q4-decode': faster('SmolLM2-135M 4-bit, decoding one stream: speed against llama.cpp', 1.2),
  'smollm2-q4-perplexity': below('SmolLM2-135M 4-bit: perplexity off that of llama.cpp', '%', 1),
  'serve-16': faster('serve SmolLM2-135M float32, 16 streams: throughput of one stream', 5),
  'serve-vs-transformers': faster('serve SmolLM2-135M float32, 16 streams: speed against transformers', 2),
  'serve-p95': {
    what: 'serve SmolLM2-135M float32, 16 streams: 95 % of the times between tokens are below',
    unit: 'ms',
    better: 'lower',
    target: null,
  },
  'first-step': below('from `anneal run` in a fresh process to the end of the first training step', 's', 5),
} as const satisfies Record<string, Claim>;

/** Id of a row. */
export type RowId = keyof typeof CLAIMS;

/** Every id, in order. */
export const ROW_IDS = Object.keys(CLAIMS) as RowId[];

/** Completes the row of a claim. */
export const claimed = (
  id: RowId,
  rest: Pick<RowSpec, 'value' | 'peer' | 'spread' | 'repeats' | 'note'>,
): Row => makeRow({ id, ...CLAIMS[id], ...rest });

/** Rows that could not be measured, all for one reason. */
export const unmeasured = (ids: readonly RowId[], note: string): Row[] =>
  ids.map((id) => claimed(id, { value: null, note }));

/** Why a duel has no comparison. */
export function reasonOf({ missing }: DuelResult, peer: string): string {
  const names: Record<SideName, string> = { ours: 'Anneal', peer };
  return [...missing].map(([side, why]) => `${names[side]}: ${why}`).join('; ') || 'no side ran';
}

/** Three significant digits. */
export const figure = (value: number): string =>
  Number(value.toPrecision(3)).toLocaleString('en', { maximumSignificantDigits: 3 });

/**
 * Our speed against the peer's from the seconds that both took for `amount` units of work a turn.
 * @param metric the figure of a turn that holds the seconds
 */
export function speedRow(
  id: RowId,
  result: DuelResult,
  options: { metric: string; peer: string; amount: number; unit: string; note?: string },
): Row {
  const { metric, peer, amount, unit, note } = options;
  const [ours, theirs] = [result.results.get('ours'), result.results.get('peer')];
  if (!ours || !theirs) return claimed(id, { value: null, peer, note: reasonOf(result, peer) });
  const [a, b] = [ours.samples[metric]!, theirs.samples[metric]!];
  const rates = `${figure(amount / a.median)} against ${figure(amount / b.median)} ${unit}`;
  return claimed(id, {
    ...ratio(b, a),
    peer: theirs.about,
    repeats: a.values.length,
    note: note === undefined ? rates : `${rates}; ${note}`,
  });
}
