/** The HTTP server with 16 streams, against itself with one and against transformers with a batch of 16. */
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { loadLanguageModel } from 'anneal/models';
import { Contestant, pythonSpec } from '../contestant.js';
import {
  interleave,
  quantile,
  type Row,
  type RunOptions,
  ratio,
  type Sample,
  summarise,
} from '../harness.js';
import { settle, withFolder } from '../machine.js';
import { type RunningServer, startServer, streamCompletion } from './client.js';
import { findFile, SMOLLM2 } from './data.js';
import { type Generated, prompts } from './pretrained.js';
import { claimed, figure, type RowId, unmeasured } from './rows.js';

const STREAMS = 16;
const PROMPT = 64;
const IDS: readonly RowId[] = ['serve-16', 'serve-vs-transformers', 'serve-p95'];
const PEER = 'transformers';

/** What the turns gave. */
export interface Figures {
  /** Seconds a token, in all streams together. */
  one: Sample;
  all: Sample;
  peer: Sample | undefined;
  about: string;
  gaps: readonly number[];
}

/** Lets streams of the server and batches of the peer take turns. */
async function measure(
  server: RunningServer,
  peer: Contestant | undefined,
  banned: readonly number[],
  { quick }: RunOptions,
): Promise<Figures> {
  const tokens = quick ? 64 : 128;
  const gaps: number[] = [];
  let turn = 0;
  const serve = async (streams: number): Promise<number> => {
    const start = performance.now();
    const done = await Promise.all(
      prompts(streams, PROMPT, turn++).map((prompt) => streamCompletion(server, prompt, tokens, banned)),
    );
    const seconds = (performance.now() - start) / 1000;
    if (streams === STREAMS) gaps.push(...done.flatMap((one) => one.gaps));
    return seconds / (streams * tokens);
  };
  const batch = async (): Promise<number> => {
    const request = { op: 'generate', prompts: prompts(STREAMS, PROMPT, turn++), tokens };
    const { promptSeconds, decodeSeconds } = await peer!.ask<Generated>(request, 'generated');
    return (promptSeconds + decodeSeconds) / (STREAMS * tokens);
  };
  const turns: Record<string, () => Promise<number>> = {
    one: () => serve(1),
    all: () => serve(STREAMS),
    ...(peer && { peer: batch }),
  };
  // Every shape is compiled and every peer warm before anything counts.
  for (const work of Object.values(turns)) await work();
  gaps.length = 0;
  const samples = await interleave(turns, quick ? 2 : 5, settle);
  const { one, all, peer: theirs } = samples as { one: Sample; all: Sample; peer?: Sample };
  return { one, all, peer: theirs, about: peer?.about ?? PEER, gaps };
}

/** The three rows; `missing` says why there is no peer. */
export function rowsOf({ one, all, peer, about, gaps }: Figures, missing: string): Row[] {
  const rate = ({ median }: Sample) => figure(1 / median);
  const repeats = all.values.length;
  const setting = `prompts of ${PROMPT} tokens`;
  return [
    claimed('serve-16', {
      ...ratio(one, all),
      repeats,
      note: `${rate(all)} against ${rate(one)} tokens/s; ${setting}, prompts included`,
    }),
    peer
      ? claimed('serve-vs-transformers', {
          ...ratio(peer, all),
          peer: about,
          repeats,
          note: `${rate(all)} against ${rate(peer)} tokens/s; ${setting}, prompts included`,
        })
      : claimed('serve-vs-transformers', { value: null, peer: PEER, note: missing }),
    claimed('serve-p95', {
      value: quantile(gaps, 0.95),
      spread: summarise(gaps).spread,
      repeats: gaps.length,
      note: `as the client sees it; half of them below ${figure(quantile(gaps, 0.5))} ms`,
    }),
  ];
}

/** The rows that were asked for. */
export async function servingRows(options: RunOptions): Promise<Row[]> {
  const wanted = IDS.filter(options.wants);
  if (wanted.length === 0) return [];
  const found = findFile(options.data, SMOLLM2);
  if ('reason' in found) return unmeasured(wanted, found.reason);
  const { endTokens } = await loadLanguageModel(found.file, { weights: 'packed' });
  return withFolder(async (folder) => {
    const job = path.join(folder, 'job.json');
    writeFileSync(job, JSON.stringify({ model: found.file, threads: os.availableParallelism() }));
    const started = options.wants('serve-vs-transformers')
      ? await Contestant.start(pythonSpec(PEER, 'generate_transformers.py', [job]))
      : { unavailable: 'not asked for' };
    const peer = started instanceof Contestant ? started : undefined;
    const missing = started instanceof Contestant ? '' : started.unavailable;
    let server: RunningServer | undefined;
    try {
      server = await startServer(found.file, STREAMS);
      options.log(`started anneal serve at ${server.url}${peer ? `, ${peer.about}` : ''}`);
      return rowsOf(await measure(server, peer, endTokens, options), missing);
    } catch (error) {
      return unmeasured(wanted, (error as Error).message);
    } finally {
      await server?.stop();
      await peer?.stop();
    }
  });
}
