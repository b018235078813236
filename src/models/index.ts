export * from './lm/index.js';
