import { tensor, variable } from '../../../src/index.js';

export const floats = (...values: number[]): Float32Array => Float32Array.from(values);
export const ramp = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => i + 1);
export const named = (name: string, values: readonly number[], shape: readonly number[] = [values.length]) =>
  variable(tensor(Float32Array.from(values), shape), { name });

/** The error that a promise rejects with. */
export const rejection = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => Promise.reject(new Error('the promise did not reject')),
    (error: Error) => error,
  );
