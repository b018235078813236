/** The same training in the browser and in Node: the tests serve this file to one and import it in the other. */

const batch = 12;
const steps = 30;
const rate = 0.5;

/**
 * Losses of a small classifier, 8 -> 16 -> 3, trained by plain gradient descent.
 * @param {typeof import('../../src/browser.js')} anneal either build of the library
 * @param {string} device
 * @returns {Promise<number[]>}
 */
export async function train(anneal, device) {
  const { crossEntropy, gelu, grad, int32, program, randn, Rng, scalar, variable } = anneal;
  const rng = new Rng(7, 'weights');
  const w1 = variable(randn([8, 16], { std: 0.35, rng }), { name: 'w1' });
  const b1 = variable(randn([16], { std: 0.1, rng }), { name: 'b1' });
  const w2 = variable(randn([16, 3], { std: 0.25, rng }), { name: 'w2' });
  const weights = [w1, b1, w2];
  const step = program(
    { x: [null, 8], y: int32([null]) },
    ({ x, y }) => {
      const loss = crossEntropy(gelu(x.matmul(w1).add(b1)).matmul(w2), y);
      grad(loss, weights).forEach((g, i) => {
        weights[i].assign(weights[i].sub(g.mul(scalar(rate))));
      });
      return { loss };
    },
    { name: 'small classifier', device },
  );
  const data = new Rng(7, 'data');
  const x = data.uniform(batch * 8, -1, 1);
  // The class is the largest of the first three features, so that there is something to learn.
  const y = Int32Array.from({ length: batch }, (_, i) => {
    const scores = x.subarray(i * 8, i * 8 + 3);
    return scores.indexOf(Math.max(...scores));
  });
  const losses = [];
  for (let i = 0; i < steps; i++) losses.push((await step({ x, y })).loss.item());
  return losses;
}
