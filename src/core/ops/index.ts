export * from './attention.js';
export * from './einsum.js';
export * from './elementwise.js';
export * from './indexing.js';
export { constant, scalar, tensor } from './leaf.js';
export { type MatmulOptions, matmul } from './matmul.js';
export * from './nn.js';
export * from './reduce.js';
export * from './view.js';
