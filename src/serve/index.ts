export type { ServedModel } from './engine.js';
export { ApiError } from './errors.js';
export { type AnnealServer, createServer, type ServerOptions } from './server.js';
