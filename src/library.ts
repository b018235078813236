/** Everything that is the same in Node and in the browser. */
export * from './core/index.js';
export * from './optim/index.js';
