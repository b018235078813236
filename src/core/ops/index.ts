export * from './attention.js';
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
export * from './einsum.js';
export * from './elementwise.js';
export * from './indexing.js';
export { constant, scalar, tensor } from './leaf.js';
export { type MatmulOptions, matmul } from './matmul.js';
export * from './nn.js';
export * from './pool.js';
export * from './reduce.js';
export * from './resize.js';
export * from './view.js';
