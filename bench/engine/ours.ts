/** Anneal's side of the engine suite: the same GPT, built from the library. */
import {
  adamW,
  attention,
  configure,
  crossEntropy,
  gather,
  gelu,
  int32,
  type Program,
  program,
  rearrange,
  rmsNorm,
  split,
  type Tensor,
  tensor,
  type Variable,
  variable,
} from 'anneal';
import { bareCall } from './bare.js';
import type { CreateGpt, GptConfig } from './gpt.js';

/** A compiled program with many small inputs and outputs, and the runtime's bare call of the same graph. */
export interface CallProbe {
  /** One call through the library, on the calling thread. */
  runSync(): void;
  /** One call through the library, off the main thread. */
  run(): Promise<void>;
  /** The runtime alone: its own run function on prepared arguments, nothing marshalled. */
  bareSync(): void;
}

/** Sequences of a micro-batch whose activations stay in the last-level cache. */
export const sequencesInCache = (config: GptConfig): number =>
  Math.max(1, Math.min(config.batch, Math.round((4 * 256 * 384) / (config.context * config.dim))));

/** Mean loss of tokens x [batch, context] with targets y. Activations are [batch·context, dim]: two axes suit the products. */
export function gptLoss(
  config: GptConfig,
  epsilon: number,
  p: (name: string) => Variable,
  x: Tensor,
  y: Tensor,
): Tensor {
  const { layers, dim, heads: h, context: t } = config;
  const embedded = gather(p('tokens'), x).add(p('positions'));
  let stream = embedded.reshape([-1, dim]);
  for (let i = 0; i < layers; i++) {
    const block = (name: string) => p(`blocks.${i}.${name}`);
    const qkv = rmsNorm(stream, block('norm1'), epsilon).matmul(block('qkv'));
    const heads = rearrange(qkv, '(b t) (three h d) -> three b h t d', { t, three: 3, h });
    const [q, k, v] = split(heads, 3, 0).map((part) => part.reshape(part.shape.slice(1))) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const mixed = rearrange(attention(q, k, v, { causal: true }), 'b h t d -> (b t) (h d)');
    stream = stream.add(mixed.matmul(block('out')));
    const hidden = gelu(rmsNorm(stream, block('norm2'), epsilon).matmul(block('up')));
    stream = stream.add(hidden.matmul(block('down')));
  }
  return crossEntropy(rmsNorm(stream, p('norm'), epsilon).matmul(p('head')), y.reshape([-1]));
}

/** Builds the GPT with the library. */
export const createGpt: CreateGpt = async (job, weights) => {
  const { config, adamW: settings } = job;
  configure({ threads: job.threads });
  const parameters = new Map(
    job.parameters.map(({ name, shape }) => [name, variable(tensor(weights.get(name)!, shape), { name })]),
  );
  const optimizer = adamW({
    lr: settings.learningRate,
    beta1: settings.beta1,
    beta2: settings.beta2,
    epsilon: settings.epsilon,
    weightDecay: settings.weightDecay,
    decays: () => true,
  });
  const shape = [config.batch, config.context];
  const microBatches = config.batch / sequencesInCache(config);
  const step = program(
    { x: int32(shape), y: int32(shape) },
    ({ x, y }) => {
      const loss = gptLoss(config, job.normEpsilon, (name) => parameters.get(name)!, x, y);
      optimizer.minimize(loss, [...parameters.values()]);
      return { loss };
    },
    { name: 'gpt', microBatches },
  );
  const tokens = new Int32Array(config.batch * config.context);
  const { times } = await step.compile({ x: tokens, y: tokens });
  return {
    step: async (x, y) => (await step({ x, y })).loss.item(),
    compileMs: times.trace + times.compile,
    about: `anneal, ${job.threads} threads, ${microBatches} micro-batches`,
  };
};

/** Compiles out[i] = in[i] + 1 for `count` inputs of `size` floats each. */
export async function createCallProbe(count: number, size: number): Promise<CallProbe> {
  const names = Array.from({ length: count }, (_, i) => `x${i}`);
  const feeds = Object.fromEntries(names.map((name) => [name, new Float32Array(size)]));
  const call: Program<string, string> = program(
    Object.fromEntries(names.map((name) => [name, [size]])),
    (inputs) => Object.fromEntries(names.map((name) => [`y_${name}`, inputs[name]!.add(1)])),
    { name: 'calls' },
  );
  await call.compile(feeds);
  return {
    runSync: () => void call.runSync(feeds),
    run: async () => void (await call(feeds)),
    bareSync: await bareCall(count, size),
  };
}
