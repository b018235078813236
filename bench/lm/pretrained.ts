/** SmolLM2-135M: in float32 against transformers, and with 4-bit weights against llama.cpp on the same file. */
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { loadLanguageModel } from 'anneal/models';
import type { Contestant } from '../contestant.js';
import type { Row, RunOptions } from '../harness.js';
import type { Answer } from '../protocol.js';
import { type Found, findFile, SHAKESPEARE, SMOLLM2 } from './data.js';
import { type DuelResult, duelOnJob } from './duel.js';
import { claimed, type RowId, reasonOf, speedRow, unmeasured } from './rows.js';

/** What both sides open. */
export interface PretrainedJob {
  /** A .gguf file. */
  model: string;
  weights: 'float32' | 'packed';
  /** Tokens that there is room for. */
  context: number;
  /** Prompt tokens that our generator reads at once. */
  chunk: number;
  threads: number;
}

/** Answer to `generate`: seconds until the first token, and those of the rest. */
export type Generated = Answer & { type: 'generated'; promptSeconds: number; decodeSeconds: number };

const PROMPT = 512;
const TOKENS = 128;
const WINDOW = 512;
/** Ids below it are control tokens. */
const FIRST_WORD = 100;

/** Prompts of ordinary tokens, other ones for every seed. */
export function prompts(count: number, length: number, seed: number): number[][] {
  // Knuth's multiplicative hash; what the tokens are hardly matters, that both sides get the same does.
  const token = (i: number) => FIRST_WORD + (Math.imul(i + 1, 2654435761) >>> 18);
  return Array.from({ length: count }, (_, row) =>
    Array.from({ length }, (_, i) => token((seed * count + row) * length + i)),
  );
}

async function generate(contestant: Contestant, round: number, tokens: number) {
  const request = { op: 'generate', prompts: prompts(1, PROMPT, round + 1), tokens };
  const { promptSeconds, decodeSeconds } = await contestant.ask<Generated>(request, 'generated');
  return { promptSeconds, decodeSeconds };
}

const jobOf = (model: string, weights: PretrainedJob['weights']): PretrainedJob => ({
  model,
  weights,
  context: 1024,
  chunk: 512,
  threads: os.availableParallelism(),
});

function speedRows(ids: readonly [RowId, RowId], result: DuelResult, peer: string, tokens: number): Row[] {
  const common = { peer, unit: 'tokens/s' };
  const note = 'the first token included';
  return [
    speedRow(ids[0], result, { ...common, metric: 'promptSeconds', amount: PROMPT, note }),
    // The first token comes with the prompt.
    speedRow(ids[1], result, { ...common, metric: 'decodeSeconds', amount: tokens - 1 }),
  ];
}

/** Windows of ordinary text, as the model's own tokens. */
async function textWindows(model: string, text: Found, count: number): Promise<number[][] | string> {
  if ('reason' in text) return text.reason;
  const { tokenizer } = await loadLanguageModel(model, { weights: 'packed' });
  // Some three characters are a token; the end of the text is that which no run of the suite trains on.
  const tokens = tokenizer.encode(readFileSync(text.file, 'utf8').slice(-6 * count * WINDOW));
  return Array.from({ length: count }, (_, i) => [...tokens.subarray(i * WINDOW, (i + 1) * WINDOW)]);
}

function perplexityRow(result: DuelResult, windows: number): Row {
  const [a, b] = (['ours', 'peer'] as const).map((side) => result.results.get(side)?.after.nats);
  const peer = result.results.get('peer')?.about ?? 'llama.cpp';
  if (a === undefined || b === undefined) {
    const note = reasonOf(result, 'llama.cpp');
    return claimed('smollm2-q4-perplexity', { value: null, peer, note });
  }
  return claimed('smollm2-q4-perplexity', {
    value: 100 * Math.abs(Math.exp(a - b) - 1),
    peer,
    repeats: windows,
    note: `${Math.exp(a).toFixed(3)} against ${Math.exp(b).toFixed(3)} on ${windows} windows of ${WINDOW} tokens of tiny Shakespeare`,
  });
}

async function float32Rows(model: string, options: RunOptions): Promise<Row[]> {
  const tokens = options.quick ? 32 : TOKENS;
  const peer = 'transformers';
  const result = await duelOnJob(
    {
      module: 'ours-pretrained',
      script: 'generate_transformers.py',
      peer,
      job: jobOf(model, 'float32'),
      rounds: options.quick ? 3 : 7,
      turn: (contestant, round) => generate(contestant, round, tokens),
    },
    options.log,
  );
  return speedRows(['smollm2-prompt', 'smollm2-decode'], result, peer, tokens);
}

async function packedRows(model: string, options: RunOptions): Promise<Row[]> {
  const tokens = options.quick ? 32 : TOKENS;
  const count = options.quick ? 2 : 8;
  const peer = 'llama.cpp';
  const wantsPerplexity = options.wants('smollm2-q4-perplexity');
  const wantsSpeed = options.wants('smollm2-q4-prompt') || options.wants('smollm2-q4-decode');
  const text = findFile(options.data, SHAKESPEARE);
  const windows = wantsPerplexity ? await textWindows(model, text, count) : [];
  const result = await duelOnJob(
    {
      module: 'ours-pretrained',
      script: 'generate_llama_cpp.py',
      peer,
      job: jobOf(model, 'packed'),
      rounds: options.quick ? 3 : 9,
      ...(wantsSpeed && { turn: (contestant, round) => generate(contestant, round, tokens) }),
      after: async (contestant) => {
        if (typeof windows === 'string' || windows.length === 0) return {};
        const request = { op: 'perplexity', windows };
        return { nats: (await contestant.ask<Answer & { nats: number }>(request, 'scored')).nats };
      },
    },
    options.log,
  );
  return [
    ...(wantsSpeed ? speedRows(['smollm2-q4-prompt', 'smollm2-q4-decode'], result, peer, tokens) : []),
    ...(typeof windows === 'string'
      ? unmeasured(['smollm2-q4-perplexity'], windows)
      : wantsPerplexity
        ? [perplexityRow(result, count)]
        : []),
  ];
}

const FLOAT32: readonly RowId[] = ['smollm2-prompt', 'smollm2-decode'];
const PACKED: readonly RowId[] = ['smollm2-q4-prompt', 'smollm2-q4-decode', 'smollm2-q4-perplexity'];

/** The rows that were asked for. */
export async function pretrainedRows(options: RunOptions): Promise<Row[]> {
  const wanted = [...FLOAT32, ...PACKED].filter(options.wants);
  if (wanted.length === 0) return [];
  const found = findFile(options.data, SMOLLM2);
  if ('reason' in found) return unmeasured(wanted, found.reason);
  const rows: Row[] = [];
  if (FLOAT32.some(options.wants)) rows.push(...(await float32Rows(found.file, options)));
  if (PACKED.some(options.wants)) rows.push(...(await packedRows(found.file, options)));
  return rows;
}
