export * from './activation.js';
export { type AttentionOptions, attention } from './attention.js';
export * from './cached-attention.js';
export { type CachedPathOptions, cachedPathAttention } from './cached-path.js';
export {
  type ConvOptions,
  type ConvTransposeOptions,
  conv1d,
  conv2d,
  convTranspose1d,
  convTranspose2d,
  type Padding,
  type PerAxis,
} from './conv-functions.js';
export * from './cross-entropy.js';
export { canDecodeTogether, decodeAttention } from './decode-attention.js';
export * from './einsum.js';
export * from './elementwise.js';
export * from './indexing.js';
export { concat, split, stack } from './join.js';
export { constant, scalar, tensor } from './leaf.js';
export { bandMask, causalMask, full, lowerTriangle, ones, upperTriangle, zeros } from './masks.js';
export { type MatmulOptions, matmul } from './matmul.js';
export { nesterov } from './momentum.js';
export * from './normalization.js';
export { type PackedMatrix, packedMatmul, unpackWeights } from './packed-matmul.js';
export { type PathOptions, pathAttention } from './path.js';
export * from './pool.js';
export * from './reduce.js';
export * from './resize.js';
export * from './rotary.js';
export { flip, pad, type SliceRange, slice } from './slice.js';
export { logSoftmax, logSumExp, softmax } from './softmax.js';
export { type StickBreakingOptions, stickBreakingAttention } from './stick-breaking.js';
export { symmetricProduct } from './symmetric.js';
export * from './triangular.js';
export {
  broadcastTo,
  expandDims,
  reshape,
  squeeze,
  tile,
  transpose,
  zerosLike,
} from './view.js';
