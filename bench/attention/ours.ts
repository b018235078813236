/** Our side of the attention suite: forward and backward passes and decoding steps, kinds of attention taking turns. */
import { readFileSync } from 'node:fs';
import {
  attention,
  cachedPathAttention,
  configure,
  decodeAttention,
  grad,
  int32,
  pathAttention,
  program,
  Rng,
  rotary,
  rotaryTables,
  split,
  stickBreakingAttention,
  sum,
  type Tensor,
  tensor,
  type Variable,
  variable,
  zeros,
} from 'anneal';
import { median } from '../harness.js';
import type { OpenSide } from '../lm/side.js';
import { peakMemoryMB } from '../protocol.js';
import { type AttentionJob, runsAt } from './job.js';

type Kind = 'rope' | 'path' | 'stick-breaking';
const kinds: readonly Kind[] = ['rope', 'path', 'stick-breaking'];

/** Operands are variables and gradients are assigned to variables: what is timed copies nothing in or out. */
function operandsOf({ heads, d }: AttentionJob, length: number) {
  const rng = new Rng(1);
  const shape = [1, heads, length, d];
  const draw = () => variable(tensor(rng.normal(heads * length * d), shape));
  const [q, k, v, g, w] = [draw(), draw(), draw(), draw(), draw()];
  for (let i = 0; i < w.data.length; i += d) {
    const part = (w.data as Float32Array).subarray(i, i + d);
    const norm = Math.hypot(...part);
    part.forEach((x, j) => {
      part[j] = x / norm;
    });
  }
  const beta = variable(tensor(rng.uniform(heads * length, 0.2, 1.8), [1, heads, length]));
  return { q, k, v, g, w, beta };
}

/** A program that does the forward and the backward pass of a kind. */
function passOf(kind: Kind, job: AttentionJob, length: number): () => Promise<unknown> {
  const { q, k, v, g, w, beta } = operandsOf(job, length);
  const { cos, sin } = rotaryTables(length, job.d);
  const results: Record<Kind, () => { y: Tensor; wrt: Variable[] }> = {
    rope: () => ({
      y: attention(rotary(q, cos, sin), rotary(k, cos, sin), v, { causal: true }),
      wrt: [q, k, v],
    }),
    path: () => ({ y: pathAttention(q, k, v, w, beta), wrt: [q, k, v, w, beta] }),
    'stick-breaking': () => ({ y: stickBreakingAttention(q, k, v), wrt: [q, k, v] }),
  };
  const places = [q, ...(kind === 'path' ? [q, k, v, w, beta] : [q, k, v])].map((t) =>
    variable(zeros(t.shape)),
  );
  const run = program({}, () => {
    const { y, wrt } = results[kind]();
    const gradients = grad(sum(y.mul(g)), wrt);
    [y, ...gradients].forEach((t, i) => {
      places[i]!.assign(t);
    });
    return {};
  });
  return () => run({});
}

/** A step of decoding with full caches: RoPE with packed projections as the models have it, or PaTH. */
function stepOf(kind: 'rope' | 'path', { heads, d, keys, layers }: AttentionJob): () => Promise<unknown> {
  const rng = new Rng(2);
  const width = heads * d;
  const cache = () => variable(tensor(rng.normal(width * keys), [1, heads, keys, d]));
  const caches = Array.from({ length: layers }, () => ({ keys: cache(), values: cache() }));
  const tables = rotaryTables(keys, d);
  const run = program(
    { qkv: [1, 3 * width], w: [1, heads, 1, d], beta: [1, heads, 1], lengths: int32([1]) },
    ({ qkv, w, beta, lengths }) => {
      let total: Tensor | undefined;
      const [q, k, v] = split(qkv, 3, 1).map((t) => t.reshape([1, heads, 1, d])) as [Tensor, Tensor, Tensor];
      for (const layer of caches) {
        const [y, nextKeys, nextValues] =
          kind === 'rope'
            ? decodeAttention(qkv, layer.keys, layer.values, lengths, tables, { heads })
            : cachedPathAttention(q, k, v, w, beta, layer.keys, layer.values, lengths);
        layer.keys.assign(nextKeys);
        layer.values.assign(nextValues);
        const flat = y.reshape([1, width]);
        total = total ? total.add(flat) : flat;
      }
      return { total: total! };
    },
  );
  const feeds = {
    qkv: rng.normal(3 * width),
    w: new Float32Array(width).fill(1 / Math.sqrt(d)),
    beta: new Float32Array(heads).fill(0.5),
    lengths: Int32Array.of(keys - 1),
  };
  return () => run(feeds);
}

/** Median milliseconds of each of some works that take turns. */
async function turns(
  works: Record<string, () => Promise<unknown>>,
  runs: number,
): Promise<Record<string, number>> {
  const times = new Map<string, number[]>(Object.keys(works).map((name) => [name, []]));
  for (let i = 0; i < runs; i++) {
    for (const [name, work] of Object.entries(works)) {
      const start = performance.now();
      await work();
      times.get(name)!.push(performance.now() - start);
    }
  }
  return Object.fromEntries([...times].map(([name, list]) => [name, median(list)]));
}

export const open: OpenSide = async (file) => {
  const job = JSON.parse(readFileSync(file, 'utf8')) as AttentionJob;
  configure({ threads: job.threads });
  const about = `anneal, ${job.threads} threads`;
  if (job.memoryOf !== undefined) {
    const kind = job.memoryOf;
    return {
      about,
      operations: {
        memory: async () => {
          // A short sequence first: what is loaded on first use does not count.
          await passOf(kind, job, 64)();
          const before = peakMemoryMB();
          const operands = passOf(kind, job, job.lengths[0]!);
          await operands();
          return { type: 'memory', peakMB: peakMemoryMB() - before };
        },
      },
    };
  }
  const passes = new Map(
    job.lengths.map((length) => [
      length,
      Object.fromEntries(kinds.map((kind) => [`${kind}-${length}`, passOf(kind, job, length)])),
    ]),
  );
  const steps = { 'rope-step': stepOf('rope', job), 'path-step': stepOf('path', job) };
  return {
    about,
    operations: {
      passes: async (request) => {
        const length = Number(request.length);
        return { type: 'timed', figures: await turns(passes.get(length)!, runsAt(length)) };
      },
      steps: async () => ({ type: 'timed', figures: await turns(steps, 40) }),
    },
  };
};
