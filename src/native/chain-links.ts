import type { KernelLink, KernelRequest, KernelType } from '../runtime/backend.js';

/** A node of a chain and what its operator was made for. */
export interface Step {
  link: KernelLink;
  request: KernelRequest;
}

const same = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

/** Kinds of nodes whose rows do not know of each other: which inputs have a row for each row of the result. */
const rowInputs: Readonly<Record<string, (input: number, request: KernelRequest) => boolean>> = {
  rmsNorm: (i) => i === 0,
  jointMatmul: (i) => i === 0,
  swiglu: (i) => i === 0,
  gemm: (i, { inputs, outputs }) => i === 0 || (i === 2 && same(inputs[2]!.shape, outputs[0]!.shape)),
  decodeAttention: (i) => i < 4,
};

/** Whether input `i` has a row for each row of the result; the others are needed whole. */
export const isByRow = (request: KernelRequest, i: number): boolean => rowInputs[request.kind]!(i, request);

export const isAttention = ({ request }: Step): boolean => request.kind === 'decodeAttention';

/** Rows of a node's results, if it works row by row. */
export function rowsOf(request: KernelRequest): number | undefined {
  if (!Object.hasOwn(rowInputs, request.kind)) return undefined;
  const { inputs, outputs } = request;
  const rows = outputs[0]?.shape[0];
  const all = [...inputs.filter((_, i) => isByRow(request, i)), ...outputs];
  return all.every(({ shape }) => shape.length > 0 && shape[0] === rows) ? rows : undefined;
}

/** The same work on so many of the rows. */
export function onRows(request: KernelRequest, rows: number): KernelRequest {
  const cut = ({ dtype, shape }: KernelType) => ({ dtype, shape: [rows, ...shape.slice(1)] });
  return {
    ...request,
    inputs: request.inputs.map((type, i) => (isByRow(request, i) ? cut(type) : type)),
    outputs: request.outputs.map(cut),
  };
}
