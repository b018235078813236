/**
 * The benchmark's GPT in jax-js, on its wasm backend.
 *
 * One jitted function holds forward, backward and AdamW, which is how jax-js is meant to be used and faster
 * than two. AdamW is written out because the optimiser package of jax-js is not in the npm registry.
 *
 * Ownership in jax-js is explicit: passing an array consumes it, `.ref` keeps it for one more use.
 */
import { readFileSync } from 'node:fs';
import { provideBrowserGlobals } from './browser_globals.mjs';

/** Root-mean-square normalisation over the last axis, with a gain. */
function rmsNorm(np, x, gain, epsilon) {
  const meanSquare = np.mean(np.square(x.ref), -1, { keepdims: true });
  return x.div(np.sqrt(meanSquare.add(epsilon))).mul(gain);
}

/** One pre-norm block. `p(name)` gives the block's parameter, each of which is used once. */
function block({ numpy: np, nn }, { config, normEpsilon }, x, p) {
  const { batch, context, dim, heads } = config;
  const split = [batch, context, heads, dim / heads];
  const normed = rmsNorm(np, x.ref, p('norm1'), normEpsilon);
  const qkv = np.matmul(normed, p('qkv')).reshape([batch, context, 3, heads, dim / heads]);
  const [q, k, v] = np.split(qkv, 3, 2).map((part) => part.reshape(split));
  const attended = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([batch, context, dim]);
  const middle = x.add(np.matmul(attended, p('out')));
  const up = np.matmul(rmsNorm(np, middle.ref, p('norm2'), normEpsilon), p('up'));
  return middle.add(np.matmul(nn.gelu(up, { approximate: true }), p('down')));
}

/** Mean cross-entropy of the model with parameters `params`, keyed by name. */
function loss(jax, job, params, x, y) {
  const { numpy: np, nn } = jax;
  const { layers, batch, context, vocab } = job.config;
  const oneHot = (tokens) => nn.oneHot(tokens, vocab).astype(np.float32);
  let hidden = np.matmul(oneHot(x), params.tokens).add(params.positions);
  for (let i = 0; i < layers; i++) hidden = block(jax, job, hidden, (name) => params[`blocks.${i}.${name}`]);
  const logits = np.matmul(rmsNorm(np, hidden, params.norm, job.normEpsilon), params.head);
  const picked = nn.logSoftmax(logits, -1).mul(oneHot(y));
  return picked.sum().mul(-1 / (batch * context));
}

/** AdamW on one parameter; `correct1` and `correct2` are 1 / (1 - beta^t). */
function adamW(np, adam, parameter, gradient, m, v, correct1, correct2) {
  const { learningRate, weightDecay, beta1, beta2, epsilon } = adam;
  const nextM = m.mul(beta1).add(gradient.ref.mul(1 - beta1));
  const nextV = v.mul(beta2).add(np.square(gradient).mul(1 - beta2));
  const denominator = np.sqrt(nextV.ref.mul(correct2)).add(epsilon);
  const update = nextM.ref.mul(correct1).div(denominator).mul(learningRate);
  return { parameter: parameter.mul(1 - learningRate * weightDecay).sub(update), m: nextM, v: nextV };
}

/** The whole step as one compiled function of the state. */
function compileStep(jax, job) {
  const { numpy: np, jit, tree, valueAndGrad } = jax;
  const lossAndGradients = valueAndGrad((params, x, y) => loss(jax, job, params, x, y));
  return jit((params, m, v, x, y, correct1, correct2) => {
    const [value, gradients] = lossAndGradients(tree.ref(params), x, y);
    const next = { loss: value, params: {}, m: {}, v: {} };
    for (const { name } of job.parameters) {
      const own = [params[name], gradients[name], m[name], v[name], correct1.ref, correct2.ref];
      const updated = adamW(np, job.adamW, ...own);
      next.params[name] = updated.parameter;
      next.m[name] = updated.m;
      next.v[name] = updated.v;
    }
    correct1.dispose();
    correct2.dispose();
    return next;
  });
}

/** See CreateGpt in bench/engine/gpt.ts. */
export async function createGpt(job, weights) {
  provideBrowserGlobals(job.threads);
  const jax = await import('@jax-js/jax');
  const { numpy: np } = jax;
  await jax.init('wasm');
  jax.defaultDevice('wasm');
  const { batch, context } = job.config;
  const state = (make) => Object.fromEntries(job.parameters.map((spec) => [spec.name, make(spec)]));
  const run = compileStep(jax, job);
  let params = state(({ name, shape }) => np.array(weights.get(name).slice()).reshape([...shape]));
  let m = state(({ shape }) => np.zeros([...shape]));
  let v = state(({ shape }) => np.zeros([...shape]));
  let t = 0;
  const step = async (x, y) => {
    t++;
    const { beta1, beta2 } = job.adamW;
    const tokens = (data) => np.array(data.slice(), { dtype: np.int32 }).reshape([batch, context]);
    const corrections = [np.array(1 / (1 - beta1 ** t)), np.array(1 / (1 - beta2 ** t))];
    const next = run(params, m, v, tokens(x), tokens(y), ...corrections);
    ({ params, m, v } = next);
    await jax.blockUntilReady([params, m, v]);
    return (await next.loss.data())[0];
  };
  const manifest = new URL('./node_modules/@jax-js/jax/package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, 'utf8'));
  return { step, compileMs: null, about: `jax-js ${version} wasm, ${job.threads} threads (Worker stand-in)` };
}
