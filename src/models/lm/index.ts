export * from './adapter.js';
export * from './config.js';
export * from './presets.js';
export * from './transformer.js';
