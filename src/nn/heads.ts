import { Linear, type Projection } from './linear.js';
import type { MixerOptions } from './mixer.js';
import { RMSNorm } from './norm.js';
import { ShortConvolution } from './short-convolution.js';

/** What every attention has: its projections, and the norms of query and key heads where they are asked for. */
export interface HeadParts {
  q: Projection;
  k: Projection;
  v: Projection;
  o: Projection;
  qNorm: RMSNorm | undefined;
  kNorm: RMSNorm | undefined;
}

/** Projections dim → heads · headDim (q), dim → kvHeads · headDim (k, v) and back into the residual stream (o), and norms. */
export function headParts(options: MixerOptions): HeadParts {
  const { dim, heads, kvHeads, headDim, qkvBias, qkNorm, normEpsilon } = options;
  const into = (count: number) => new Linear(dim, count * headDim, { bias: qkvBias });
  const norm = () => (qkNorm ? new RMSNorm(headDim, normEpsilon) : undefined);
  return {
    q: into(heads),
    k: into(kvHeads),
    v: into(kvHeads),
    o: new Linear(heads * headDim, dim, { residual: true }),
    qNorm: norm(),
    kNorm: norm(),
  };
}

/** The short convolution over keys, or over what stands in their place, where its width asks for one. */
export const keyConvolution = ({ kvHeads, headDim, keyConvolution: width }: MixerOptions) =>
  width > 1 ? new ShortConvolution(kvHeads * headDim, width) : undefined;
