/**
 * The benchmark's GPT in TensorFlow.js, on its wasm backend.
 *
 * Two things about that backend shape this file. It has no kernel for the gradient of a gather
 * (UnsortedSegmentSum) nor LogSoftmax, so embeddings are matmuls with one-hot rows and the loss is written
 * out. And its matmul takes the fast XNNPACK path only for two plain matrices: a transposed operand, as in tf's
 * own matmul gradient, falls into a loop that is 3x slower over the whole step. So `dense` states its gradient
 * with explicit transposes.
 *
 * One thread: the backend switches its threads off in Node (flags_wasm.js), and forcing them on fails with
 * ERR_WORKER_PATH because it starts its workers from blob URLs.
 */

/** Makes the layers out of a loaded tf. */
function layers(tf, { config, normEpsilon }) {
  const { batch, context, dim, heads } = config;
  const rows = batch * heads;
  const headDim = dim / heads;
  const future = (_, i) => (i % context > Math.floor(i / context) ? -1e9 : 0);
  const mask = tf.tensor2d(Float32Array.from({ length: context * context }, future), [context, context]);

  const dense = tf.customGrad((x, w, save) => {
    save([x, w]);
    const gradFunc = (dy, [x, w]) => [tf.matMul(dy, tf.transpose(w)), tf.matMul(tf.transpose(x), dy)];
    return { value: tf.matMul(x, w), gradFunc };
  });
  const rmsNorm = (x, gain) => x.div(x.square().mean(-1, true).add(normEpsilon).sqrt()).mul(gain);
  const gelu = (x) => {
    const inner = x.add(x.mul(x).mul(x).mul(0.044715)).mul(Math.sqrt(2 / Math.PI));
    return x.mul(0.5).mul(inner.tanh().add(1));
  };
  const attention = (qkv) => {
    const split = qkv.reshape([batch, context, 3, heads, headDim]).transpose([2, 0, 3, 1, 4]);
    const parts = tf.split(split.reshape([3, rows, context, headDim]), 3, 0);
    const [q, k, v] = parts.map((part) => part.reshape([rows, context, headDim]));
    const scores = tf.matMul(q, k, false, true).mul(1 / Math.sqrt(headDim));
    const mixed = tf.matMul(tf.softmax(scores.add(mask)), v).reshape([batch, heads, context, headDim]);
    return mixed.transpose([0, 2, 1, 3]).reshape([batch * context, dim]);
  };
  return { dense, rmsNorm, gelu, attention };
}

/** Returns `loss(x, y)` over the variables in `p`, keyed by parameter name; tokens are flat int32 tensors. */
function lossFunction(tf, job, p) {
  const { layers: count, batch, context, dim, vocab } = job.config;
  const { dense, rmsNorm, gelu, attention } = layers(tf, job);
  const oneHot = (tokens) => tf.oneHot(tokens, vocab).cast('float32');
  const block = (x, name) => {
    const attended = attention(dense(rmsNorm(x, p[`${name}.norm1`]), p[`${name}.qkv`]));
    const middle = x.add(dense(attended, p[`${name}.out`]));
    const hidden = gelu(dense(rmsNorm(middle, p[`${name}.norm2`]), p[`${name}.up`]));
    return middle.add(dense(hidden, p[`${name}.down`]));
  };
  return (x, y) => {
    const embedded = dense(oneHot(x), p.tokens).reshape([batch, context, dim]).add(p.positions);
    let hidden = embedded.reshape([batch * context, dim]);
    for (let i = 0; i < count; i++) hidden = block(hidden, `blocks.${i}`);
    const logits = dense(rmsNorm(hidden, p.norm), p.head);
    const shifted = logits.sub(logits.max(1, true));
    return shifted
      .exp()
      .sum(1)
      .log()
      .sub(shifted.mul(oneHot(y)).sum(1))
      .mean();
  };
}

/** See CreateGpt in bench/engine/gpt.ts. */
export async function createGpt(job, weights) {
  const tf = await import('@tensorflow/tfjs');
  const wasm = await import('@tensorflow/tfjs-backend-wasm');
  wasm.setThreadsCount(job.threads);
  if (!(await tf.setBackend('wasm'))) throw new Error('the wasm backend of tfjs did not start');
  const variables = {};
  for (const { name, shape } of job.parameters) {
    variables[name] = tf.variable(tf.tensor(weights.get(name).slice(), [...shape]));
  }
  const trained = Object.values(variables);
  const loss = lossFunction(tf, job, variables);
  const { learningRate, weightDecay, beta1, beta2, epsilon } = job.adamW;
  // tf has Adam; decoupled decay before its update makes it AdamW.
  const adam = tf.train.adam(learningRate, beta1, beta2, epsilon);
  const keep = 1 - learningRate * weightDecay;
  const step = async (x, y) => {
    const value = tf.tidy(() => {
      const tokens = [tf.tensor1d(x, 'int32'), tf.tensor1d(y, 'int32')];
      const { value, grads } = tf.variableGrads(() => loss(...tokens), trained);
      for (const variable of trained) variable.assign(variable.mul(keep));
      adam.applyGradients(grads);
      return value;
    });
    const [result] = await value.data();
    value.dispose();
    return result;
  };
  const about = `tfjs ${tf.version.tfjs} wasm, SIMD, ${wasm.getThreadsCount()} thread (all it has in Node)`;
  return { step, compileMs: null, about };
}
