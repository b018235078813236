import { Formula, type Value } from './formula.js';

/** Numbers that a formula has built in. */
export type Numbers = Readonly<Record<string, number>>;

const geluCubic = 0.044715;
/** tanh-GELU is x·sigmoid(k0·x + k1·x³). */
const k0 = 2 * Math.sqrt(2 / Math.PI);
const k1 = k0 * geluCubic;

/** k0·x + k1·x³ and x². */
function geluArgument(f: Formula, x: Value): { inner: Value; squared: Value } {
  const squared = f.mul(x, x);
  return { inner: f.mul(x, f.add(f.mul(squared, k1), k0)), squared };
}

/** x → gelu(x). */
export function geluTanh(): Formula {
  const f = new Formula();
  const x = f.matrix(0);
  f.write(1, f.mul(x, f.sigmoid(geluArgument(f, x).inner)));
  return f;
}

/** x, y = gelu(x), g → g·gelu'(x). */
export function geluTanhGrad(): Formula {
  const f = new Formula();
  const x = f.matrix(0);
  const { inner, squared } = geluArgument(f, x);
  const { value: s, rest } = f.sigmoidPair(inner);
  const slope = f.add(f.mul(squared, 3 * k1), k0);
  f.write(3, f.mul(f.matrix(2), f.add(f.mul(f.mul(f.matrix(1), rest), slope), s)));
  return f;
}

/** x → x·sigmoid(x). */
export function silu(): Formula {
  const f = new Formula();
  const x = f.matrix(0);
  f.write(1, f.mul(x, f.sigmoid(x)));
  return f;
}

/** x, y → x·sigmoid(x)·y. */
export function gatedProduct(): Formula {
  const f = new Formula();
  const x = f.matrix(0);
  f.write(2, f.mul(f.mul(x, f.sigmoid(x)), f.matrix(1)));
  return f;
}

/** x, g → g·silu'(x). */
export function siluGrad(): Formula {
  const f = new Formula();
  const x = f.matrix(0);
  const { value: s, rest } = f.sigmoidPair(x);
  f.write(2, f.mul(f.matrix(1), f.add(f.mul(f.mul(x, rest), s), s)));
  return f;
}

/** parameter, m, v, gradient, keep, rate, epsilon, factor → parameter', m', v'; see the op `adamw`. */
export function adamw({ beta1 = 0, beta2 = 0 }: Numbers): Formula {
  const f = new Formula();
  const g = f.mul(f.matrix(3), f.scalar(7));
  const m = f.add(f.mul(f.matrix(1), beta1), f.mul(g, 1 - beta1));
  const scaled = f.mul(g, Math.sqrt(1 - beta2));
  const v = f.add(f.mul(f.matrix(2), beta2), f.mul(scaled, scaled));
  const moved = f.div(f.mul(m, f.scalar(5)), f.add(f.sqrt(v), f.scalar(6)));
  f.write(8, f.sub(f.mul(f.matrix(0), f.scalar(4)), moved));
  f.write(9, m);
  f.write(10, v);
  return f;
}

/** B, g → B' = decay·B + fresh·g, and decay·B' + fresh·g. */
export function momentum({ decay = 0, fresh = 0 }: Numbers): Formula {
  const f = new Formula();
  const g = f.mul(f.matrix(1), fresh);
  const next = f.add(f.mul(f.matrix(0), decay), g);
  f.write(2, next);
  f.write(3, f.add(f.mul(next, decay), g));
  return f;
}

/** x, weight → x / rms(x) · weight. */
export function rmsNorm({ columns = 1, epsilon = 0 }: Numbers): Formula {
  const f = new Formula();
  const x = f.matrix(0);
  const variance = f.add(f.mul(f.sumOf(f.mul(x, x)), 1 / columns), epsilon);
  f.write(2, f.mul(f.mul(x, f.div(1, f.sqrt(variance))), f.row(1)));
  return f;
}

/** x, weight, 1/rms, g → dx, and sums of g·x̂ over the rows of each task. */
export function rmsNormGrad({ columns = 1 }: Numbers): Formula {
  const f = new Formula();
  const r = f.column(2);
  const normal = f.mul(f.matrix(0), r);
  const t = f.mul(f.matrix(3), normal);
  const mean = f.mul(f.sumOf(f.mul(t, f.row(1))), 1 / columns);
  f.write(4, f.mul(r, f.sub(f.mul(f.matrix(3), f.row(1)), f.mul(normal, mean))));
  f.writeColumnSums(5, t);
  return f;
}

/** x → softmax of its rows. */
export function softmax(): Formula {
  const f = new Formula();
  const e = f.exp(f.sub(f.matrix(0), f.maxOf(f.matrix(0))));
  f.write(1, f.mul(e, f.div(1, f.sumOf(e))));
  return f;
}

/** P, dP, δ (one a row) → P·(dP - δ). */
export function scoresGrad(): Formula {
  const f = new Formula();
  f.write(3, f.mul(f.matrix(0), f.sub(f.matrix(1), f.column(2))));
  return f;
}

/** y, g → y·(g - Σ g·y): the gradient of a softmax over rows. */
export function softmaxGrad(): Formula {
  const f = new Formula();
  const [y, g] = [f.matrix(0), f.matrix(1)];
  f.write(2, f.mul(y, f.sub(g, f.sumOf(f.mul(g, y)))));
  return f;
}
