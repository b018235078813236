/** The runtime's own time for a graph: its run function on prepared arguments, with nothing marshalled. */
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../report.js';

type Pointer = bigint;
type Names = { pointers: BigUint64Array };
interface Environment {
  ort: { api: { Run(...args: unknown[]): unknown } };
}

/** The internals of the compiled library that this needs; they are no part of its interface. */
interface Internals {
  environment(options: object): Environment;
  createSession(env: Environment, request: { model: Uint8Array; device: string }): Promise<Pointer>;
  wrap(env: Environment, dtype: string, shape: readonly number[], array: Float32Array): Pointer;
  nameArray(env: Environment, names: readonly string[]): Names;
  pointerArray(length: number): BigUint64Array;
  encodeModel(model: object): Uint8Array;
}

async function internals(): Promise<Internals> {
  const files = ['environment', 'session', 'tensors', 'ort-api'].map((name) => `runtime/node/${name}.js`);
  const modules = await Promise.all(
    [...files, 'onnx/model.js'].map(
      (file) => import(pathToFileURL(path.join(packageRoot, 'dist', file)).href),
    ),
  );
  return Object.assign({}, ...modules) as Internals;
}

/** A call of the runtime on out[i] = in[i] + 1 for `count` pairs of `size` floats. */
export async function bareCall(count: number, size: number): Promise<() => void> {
  const lib = await internals();
  const env = lib.environment({});
  const indices = Array.from({ length: count }, (_, i) => i);
  const port = (name: string) => ({ name, dtype: 'float32', shape: [size] });
  const one = { name: 'one', dtype: 'float32', dims: [], raw: new Uint8Array(Float32Array.of(1).buffer) };
  const model = lib.encodeModel({
    irVersion: 10,
    opsets: { '': 23 },
    graph: {
      name: 'bare',
      nodes: indices.map((i) => ({ op: 'Add', inputs: [`x${i}`, 'one'], outputs: [`y${i}`] })),
      inputs: indices.map((i) => port(`x${i}`)),
      outputs: indices.map((i) => port(`y${i}`)),
      initializers: [one],
    },
  });
  const session = await lib.createSession(env, { model, device: 'cpu' });
  const side = (letter: string) => {
    const names = lib.nameArray(
      env,
      indices.map((i) => `${letter}${i}`),
    );
    const values = lib.pointerArray(count);
    // Buffers of 128 bytes and more never move.
    const arrays = indices.map(() => new Float32Array(new ArrayBuffer(Math.max(128, 4 * size)), 0, size));
    for (const i of indices) values[i] = lib.wrap(env, 'float32', [size], arrays[i]!);
    return { names, values, arrays };
  };
  const [inputs, outputs] = [side('x'), side('y')];
  return () => {
    const failed = env.ort.api.Run(
      session,
      null,
      inputs.names.pointers,
      inputs.values,
      count,
      outputs.names.pointers,
      count,
      outputs.values,
    );
    if (failed) throw new Error('the runtime refused the bare call');
  };
}
