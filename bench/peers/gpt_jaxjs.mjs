/**
 * The benchmark's GPT in jax-js, on its wasm backend.
 *
 * One jitted function holds forward, backward and AdamW, which is how jax-js is meant to be used. AdamW is
 * written out because the optimiser package of jax-js is not in the npm registry.
 *
 * Ownership in jax-js is explicit: passing an array consumes it, `.ref` keeps it alive for one more use.
 */
import { provideBrowserGlobals } from './browser_globals.mjs';

/** @typedef {import('../engine/contestant-api.js').CreateGpt} CreateGpt */

const RMS_EPSILON = 1.1920929e-7;

/** Root-mean-square normalisation over the last axis, with a gain. */
function rmsNorm(np, x, gain) {
  const meanSquare = np.mean(np.square(x.ref), -1, { keepdims: true });
  return x.div(np.sqrt(meanSquare.add(RMS_EPSILON))).mul(gain);
}

/** One pre-norm transformer block; consumes `x` and the parameters of the block. */
function block({ np, nn }, config, x, p) {
  const { batch, context, dim, heads } = config;
  const headDim = dim / heads;
  const qkv = np.matmul(rmsNorm(np, x.ref, p.norm1), p.qkv).reshape([batch, context, 3, heads, headDim]);
  const [q, k, v] = np.split(qkv, 3, 2).map((part) => part.reshape([batch, context, heads, headDim]));
  const attended = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([batch, context, dim]);
  const middle = x.add(np.matmul(attended, p.out));
  const hidden = nn.gelu(np.matmul(rmsNorm(np, middle.ref, p.norm2), p.up), { approximate: true });
  return middle.add(np.matmul(hidden, p.down));
}
