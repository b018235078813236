import { encodeModel } from '../onnx/model.js';

/** A model of one node: a session of it shows whether a device is really there. */
export function probeModel(): Uint8Array {
  const value = { dtype: 'float32', shape: [1] } as const;
  return encodeModel({
    irVersion: 10,
    opsets: { '': 21 },
    graph: {
      name: 'probe',
      nodes: [{ op: 'Neg', inputs: ['x'], outputs: ['y'] }],
      inputs: [{ name: 'x', ...value }],
      outputs: [{ name: 'y', ...value }],
      initializers: [],
    },
  });
}
