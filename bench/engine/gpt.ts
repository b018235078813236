/**
 * The model that every contestant of the engine suite trains, and the interface through which it does.
 *
 * A job is written to a folder once: sizes, AdamW settings, initial weights and token batches. Each contestant
 * reads the same folder, so all of them start from the same numbers and their losses can be compared.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** Sizes of the model and of a batch. */
export interface GptConfig {
  layers: number;
  dim: number;
  heads: number;
  context: number;
  batch: number;
  vocab: number;
}

/** The larger model, 10.8 M parameters. */
export const GPT6: GptConfig = { layers: 6, dim: 384, heads: 6, context: 256, batch: 16, vocab: 65 };

/** The smaller model, 0.8 M parameters: small enough for overheads to show. */
export const GPT4: GptConfig = { layers: 4, dim: 128, heads: 4, context: 64, batch: 12, vocab: 65 };

/** One parameter in the weights file; shapes of linear layers are [in, out], as in `x @ w`. */
export interface ParameterSpec {
  name: string;
  shape: readonly number[];
}

/** AdamW as every contestant runs it: decoupled weight decay on all parameters, bias-corrected moments. */
export interface AdamW {
  learningRate: number;
  weightDecay: number;
  beta1: number;
  beta2: number;
  epsilon: number;
}

/** What a contestant trains. Norms are RMSNorm with `normEpsilon`; GELU is the tanh form; no biases. */
export interface GptJob {
  config: GptConfig;
  normEpsilon: number;
  adamW: AdamW;
  parameters: readonly ParameterSpec[];
  /** Batches in the tokens file; step s takes batch s modulo this. */
  batches: number;
  /** Threads that a contestant may use. */
  threads: number;
}

/** A model that is ready to train. */
export interface GptTrainer {
  /** One training step on int32 tokens `x` and targets `y` of [batch, context]; returns the mean loss. */
  step(x: Int32Array, y: Int32Array): Promise<number>;
  /** Milliseconds of trace, differentiate and compile, where that happens before the first step. */
  compileMs: number | null;
  /** Name and version, with whatever a reader has to know: threads, shims, deviations. */
  about: string;
}

/** What a contestant's module exports as `createGpt`. Weights are keyed by parameter name. */
export type CreateGpt = (job: GptJob, weights: ReadonlyMap<string, Float32Array>) => Promise<GptTrainer>;

/** Parameters in file order. */
export function parameterSpecs({ layers, dim, context, vocab }: GptConfig): ParameterSpec[] {
  const block = (i: number): ParameterSpec[] => [
    { name: `blocks.${i}.norm1`, shape: [dim] },
    { name: `blocks.${i}.qkv`, shape: [dim, 3 * dim] },
    { name: `blocks.${i}.out`, shape: [dim, dim] },
    { name: `blocks.${i}.norm2`, shape: [dim] },
    { name: `blocks.${i}.up`, shape: [dim, 4 * dim] },
    { name: `blocks.${i}.down`, shape: [4 * dim, dim] },
  ];
  return [
    { name: 'tokens', shape: [vocab, dim] },
    { name: 'positions', shape: [context, dim] },
    ...Array.from({ length: layers }, (_, i) => block(i)).flat(),
    { name: 'norm', shape: [dim] },
    { name: 'head', shape: [dim, vocab] },
  ];
}

/**
 * Floating-point operations of a step: 6 per weight and token, forward and backward, and the attention
 * products without the 64 x 64 blocks that lie wholly above the diagonal.
 */
export function stepFlop({ layers, dim, context, batch, vocab }: GptConfig): number {
  const matmulWeights = layers * 12 * dim * dim + dim * vocab + layers * 2 * dim + dim;
  const blocks = Math.ceil(context / 64);
  const causalShare = (blocks + 1) / (2 * blocks);
  const attention = layers * batch * context * context * dim * 2 * 2 * 3 * causalShare;
  return 6 * matmulWeights * batch * context + attention;
}

function elementCount({ shape }: ParameterSpec): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Uniform numbers in [0, 1) from a 32-bit seed (mulberry32). */
function randomStream(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Normal(0, 0.02) for matrices and embeddings, 1 for gains. */
function initialWeights(specs: readonly ParameterSpec[]): Float32Array {
  const random = randomStream(1);
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const all = new Float32Array(specs.reduce((sum, spec) => sum + elementCount(spec), 0));
  let at = 0;
  for (const spec of specs) {
    const end = at + elementCount(spec);
    if (spec.shape.length === 1) all.fill(1, at, end);
    else for (let i = at; i < end; i++) all[i] = 0.02 * normal();
    at = end;
  }
  return all;
}

/** Token sequences with a rule that can be learnt: mostly the next of a fixed cycle, sometimes a jump. */
function tokenBatches({ batch, context, vocab }: GptConfig, batches: number): Int32Array {
  const random = randomStream(2);
  const tokens = new Int32Array(batches * 2 * batch * context);
  for (let b = 0; b < batches; b++) {
    const inputs = b * 2 * batch * context;
    const targets = inputs + batch * context;
    for (let row = 0; row < batch; row++) {
      let token = Math.floor(random() * vocab);
      for (let t = 0; t < context; t++) {
        tokens[inputs + row * context + t] = token;
        token = random() < 0.1 ? Math.floor(random() * vocab) : (token * 7 + 3) % vocab;
        tokens[targets + row * context + t] = token;
      }
    }
  }
  return tokens;
}

/** Writes a job into `folder`: job.json, weights.bin (float32) and tokens.bin (int32, x then y per batch). */
export function writeJob(folder: string, config: GptConfig, threads: number): GptJob {
  const parameters = parameterSpecs(config);
  const job: GptJob = {
    config,
    normEpsilon: 1.1920929e-7,
    adamW: { learningRate: 1e-3, weightDecay: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
    parameters,
    batches: 8,
    threads,
  };
  writeFileSync(path.join(folder, 'job.json'), JSON.stringify(job));
  writeFileSync(path.join(folder, 'weights.bin'), new Uint8Array(initialWeights(parameters).buffer));
  writeFileSync(path.join(folder, 'tokens.bin'), new Uint8Array(tokenBatches(config, job.batches).buffer));
  return job;
}

/** A job as a contestant reads it. */
export interface LoadedJob {
  job: GptJob;
  weights: Map<string, Float32Array>;
  batch(step: number): { x: Int32Array; y: Int32Array };
}

/** Reads what `writeJob` wrote. */
export function readJob(folder: string): LoadedJob {
  const job = JSON.parse(readFileSync(path.join(folder, 'job.json'), 'utf8')) as GptJob;
  const bytes = (name: string) => new Uint8Array(readFileSync(path.join(folder, name))).buffer;
  const all = new Float32Array(bytes('weights.bin'));
  const tokens = new Int32Array(bytes('tokens.bin'));
  const weights = new Map<string, Float32Array>();
  let at = 0;
  for (const spec of job.parameters) {
    weights.set(spec.name, all.subarray(at, at + elementCount(spec)));
    at += elementCount(spec);
  }
  const size = job.config.batch * job.config.context;
  const batch = (step: number) => {
    const x = (step % job.batches) * 2 * size;
    return { x: tokens.subarray(x, x + size), y: tokens.subarray(x + size, x + 2 * size) };
  };
  return { job, weights, batch };
}
