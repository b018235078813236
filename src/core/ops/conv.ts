import type { LowerBuilder } from '../../onnx/lower.js';
import { AnnealError } from '../errors.js';
import { type Applicable, checkDTypes, defineOp, floats, type OpCase } from '../op.js';
import { type Shape, sizeOf, stridesOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { slice } from './slice.js';
import { reshape, transpose } from './view.js';

export type ConvAttributes = {
  strides: readonly number[];
  padsBefore: readonly number[];
  padsAfter: readonly number[];
  dilations: readonly number[];
  groups: number;
};
type ConvTransposeAttributes = ConvAttributes & { outputPadding: readonly number[] };

/** Input elements that one application of the kernel spans along each axis. */
export const reaches = (w: Shape, { dilations }: ConvAttributes) =>
  w.slice(2).map((k, i) => dilations[i]! * (k - 1) + 1);

/** Input elements, padding included, that the stride leaves behind the last application of the kernel. */
const remainders = (x: Shape, w: Shape, a: ConvAttributes) =>
  reaches(w, a).map((reach, i) => (x[i + 2]! + a.padsBefore[i]! + a.padsAfter[i]! - reach) % a.strides[i]!);

/** Checks dtypes, ranks and attributes; what depends on the direction is left to the ops. */
function checkOperands(x: TensorType, w: TensorType, a: ConvAttributes): void {
  checkDTypes([x, w], floats);
  const rank = x.shape.length - 2;
  if (rank < 1 || w.shape.length !== rank + 2) {
    throw new AnnealError('x [N, C, ...] and the kernel must have the same rank, 3 or more');
  }
  if (w.shape.slice(2).some((k) => k < 1)) throw new AnnealError('the kernel must not be empty');
  checkSteps('strides', a.strides, rank, 1);
  checkSteps('dilations', a.dilations, rank, 1);
  checkSteps('padding before', a.padsBefore, rank, 0);
  checkSteps('padding after', a.padsAfter, rank, 0);
  if (!Number.isInteger(a.groups) || a.groups < 1) {
    throw new AnnealError(`groups must be a positive integer, not ${a.groups}`);
  }
}

function checkSteps(what: string, values: readonly number[], rank: number, least: number): void {
  if (values.length !== rank || values.some((v) => !Number.isInteger(v) || v < least)) {
    throw new AnnealError(`${what} [${values}] must be ${rank} integers of at least ${least}`);
  }
}

function inferConv(x: TensorType, w: TensorType, a: ConvAttributes): TensorType {
  checkOperands(x, w, a);
  const [n, channels, ...sizes] = x.shape as [number, number, ...number[]];
  const [outputs, perGroup] = w.shape as [number, number];
  if (channels % a.groups !== 0 || outputs % a.groups !== 0) {
    throw new AnnealError(
      `${a.groups} groups do not divide ${channels} input and ${outputs} output channels`,
    );
  }
  if (perGroup !== channels / a.groups) {
    throw new AnnealError(
      `the kernel takes ${perGroup} channels per group, but x has ${channels} in ${a.groups} group(s)`,
    );
  }
  const spatial = reaches(w.shape, a).map((reach, i) => {
    const room = sizes[i]! + a.padsBefore[i]! + a.padsAfter[i]!;
    if (reach > room) {
      throw new AnnealError(
        `the kernel spans ${reach} along axis ${i + 2}, but x has ${room} there with its padding`,
      );
    }
    return Math.floor((room - reach) / a.strides[i]!) + 1;
  });
  return { dtype: x.dtype, shape: [n, outputs, ...spatial] };
}

function inferConvTranspose(x: TensorType, w: TensorType, a: ConvTransposeAttributes): TensorType {
  checkOperands(x, w, a);
  const [n, channels, ...sizes] = x.shape as [number, number, ...number[]];
  const [inputs, perGroup] = w.shape as [number, number];
  checkSteps('output padding', a.outputPadding, sizes.length, 0);
  if (inputs !== channels) {
    throw new AnnealError(`the kernel takes ${inputs} input channels, but x has ${channels}`);
  }
  if (channels % a.groups !== 0)
    throw new AnnealError(`${a.groups} groups do not divide ${channels} input channels`);
  const spatial = reaches(w.shape, a).map((reach, i) => {
    const extra = a.outputPadding[i]!;
    if (extra >= a.strides[i]!) {
      throw new AnnealError(`output padding ${extra} must be smaller than the stride ${a.strides[i]}`);
    }
    const padding = a.padsBefore[i]! + a.padsAfter[i]!;
    const size = (sizes[i]! - 1) * a.strides[i]! + reach + extra - padding;
    if (size < 1)
      throw new AnnealError(`padding ${padding} along axis ${i + 2} leaves an output of size ${size}`);
    return size;
  });
  return { dtype: x.dtype, shape: [n, perGroup * a.groups, ...spatial] };
}

/** Flat input position for each output position and kernel offset of a convolution; -1 in the padding. */
function tapTable(input: Shape, kernel: Shape, output: Shape, a: ConvAttributes): Int32Array {
  const [inner, middle, outer] = [stridesOf(input), stridesOf(kernel), stridesOf(output)];
  const taps = sizeOf(kernel);
  return new Int32Array(sizeOf(output) * taps).map((_, entry) => {
    let index = 0;
    for (let i = 0; i < input.length; i++) {
      const position = Math.floor(Math.floor(entry / taps) / outer[i]!) % output[i]!;
      const offset = Math.floor((entry % taps) / middle[i]!) % kernel[i]!;
      const at = position * a.strides[i]! + offset * a.dilations[i]! - a.padsBefore[i]!;
      if (at < 0 || at >= input[i]!) return -1;
      index += at * inner[i]!;
    }
    return index;
  });
}

/**
 * Calls `visit` with the flat indices of every term x·w of the sums y of a convolution. The transposed
 * convolution has the same terms, with x and y exchanged.
 */
function eachTerm(
  x: Shape,
  w: Shape,
  y: Shape,
  a: ConvAttributes,
  visit: (x: number, w: number, y: number) => void,
): void {
  const table = tapTable(x.slice(2), w.slice(2), y.slice(2), a);
  const [batch, channels] = x as [number, number];
  const [outputs, perGroup] = w as [number, number];
  const [inner, taps, outer] = [x, w, y].map((shape) => sizeOf(shape.slice(2))) as [number, number, number];
  for (let plane = 0; plane < batch * outputs; plane++) {
    const o = plane % outputs;
    const first = Math.floor(plane / outputs) * channels + Math.floor((o * a.groups) / outputs) * perGroup;
    for (let c = 0; c < perGroup; c++) {
      for (let entry = 0; entry < table.length; entry++) {
        const at = table[entry]!;
        if (at < 0) continue;
        const tap = entry % taps;
        visit(
          (first + c) * inner + at,
          (o * perGroup + c) * taps + tap,
          plane * outer + (entry - tap) / taps,
        );
      }
    }
  }
}

function lowerConv(
  b: LowerBuilder,
  op: string,
  w: Shape,
  a: ConvAttributes,
  outputPadding?: readonly number[],
): void {
  b.result(op, b.inputs, {
    kernel_shape: w.slice(2),
    strides: a.strides,
    pads: [...a.padsBefore, ...a.padsAfter],
    dilations: a.dilations,
    group: a.groups,
    output_padding: outputPadding,
  });
}

/** The attributes that both directions share. */
const shared = ({ strides, padsBefore, padsAfter, dilations, groups }: ConvAttributes): ConvAttributes => ({
  strides,
  padsBefore,
  padsAfter,
  dilations,
  groups,
});

/**
 * Gradient of the kernel (of shape `w`) of y = conv(x, kernel): a convolution of x with g in which batch
 * and channels change places, and strides and dilations too.
 */
function kernelGradient(x: Tensor, g: Tensor, w: Shape, a: ConvAttributes): Tensor {
  const [batch, , ...sizes] = x.shape as [number, number, ...number[]];
  const spatial = sizes.map((_, i) => i + 2);
  const [outputs, perGroup, ...kernel] = w as [number, number, ...number[]];
  const grouped = reshape(x, [batch, a.groups, perGroup, ...sizes]);
  const turned = transpose(grouped, [2, 1, 0, ...spatial.map((axis) => axis + 1)]);
  const images = reshape(turned, [perGroup, a.groups * batch, ...sizes]);
  // What the stride left over would make the result larger than the kernel: drop it from the padding
  // where it fits, which saves the work, and from the result where it does not.
  const left = remainders(x.shape, w, a);
  const result = convOp.apply([images, transpose(g, [1, 0, ...spatial])], {
    strides: a.dilations,
    padsBefore: a.padsBefore,
    padsAfter: a.padsAfter.map((pad, i) => pad - Math.min(pad, left[i]!)),
    dilations: a.strides,
    groups: a.groups,
  })[0]!;
  const cut = slice(result, [[0, perGroup], [0, outputs], ...kernel.map((k) => [0, k] as const)]);
  return transpose(cut, [1, 0, ...spatial]);
}

/** Attributes of an unpadded convolution with steps of 1, apart from `changes`. */
export const plain = (rank: number, changes: Partial<ConvAttributes> = {}): ConvAttributes => ({
  strides: new Array<number>(rank).fill(1),
  padsBefore: new Array<number>(rank).fill(0),
  padsAfter: new Array<number>(rank).fill(0),
  dilations: new Array<number>(rank).fill(1),
  groups: 1,
  ...changes,
});

const convCase = (x: Shape, w: Shape, changes: Partial<ConvAttributes> = {}): OpCase<ConvAttributes> => ({
  inputs: [x, w],
  attributes: plain(x.length - 2, changes),
});

const convCases: readonly OpCase<ConvAttributes>[] = [
  convCase([2, 2, 5], [3, 2, 3]),
  convCase([1, 1, 6], [2, 1, 2], { strides: [3], padsBefore: [1], padsAfter: [2] }),
  convCase([2, 4, 6], [2, 2, 2], { dilations: [2], groups: 2 }),
  convCase([1, 2, 3, 4], [3, 2, 2, 3], { padsBefore: [1, 0], padsAfter: [0, 2] }),
  // The stride leaves a remainder: inside the padding, inside x, and of the size of a dilated step.
  convCase([2, 2, 3, 6], [2, 2, 3, 3], { strides: [2, 2], padsBefore: [1, 0], padsAfter: [2, 0] }),
  convCase([1, 2, 6, 5], [1, 2, 2, 2], { strides: [2, 3], dilations: [2, 1] }),
  convCase([1, 1, 8], [1, 1, 2], { strides: [4], dilations: [2], padsAfter: [1] }),
  convCase([2, 3, 4, 4], [6, 1, 3, 3], { padsBefore: [1, 1], padsAfter: [1, 1], strides: [2, 1], groups: 3 }),
  convCase([2, 3, 2, 3], [2, 3, 1, 1]),
  convCase([1, 2, 5, 3], [2, 2, 1, 1], { strides: [3, 2] }),
];

/** Convolution over all axes after the first two: x [N, C, ...], w [O, C / groups, ...]. */
export const convOp: Applicable<ConvAttributes> = defineOp<ConvAttributes>({
  name: 'conv',
  infer: ([x, w], attributes) => [inferConv(x!, w!, attributes)],
  flops: ([, w], _attributes, [y]) => 2 * sizeOf(y!.shape) * sizeOf(w!.shape.slice(1)),
  vjp({ inputs: [x, w], attributes, needs }, [g]) {
    if (!g) return [];
    const outputPadding = remainders(x!.shape, w!.shape, attributes);
    return [
      needs(0) ? convTransposeOp.apply([g, w!], { ...attributes, outputPadding })[0] : undefined,
      needs(1) ? kernelGradient(x!, g, w!.shape, attributes) : undefined,
    ];
  },
  lower(b, node, attributes) {
    b.requireFloat32(node);
    lowerConv(b, 'Conv', node.inputs[1]!.shape, attributes);
  },
  evaluate([x, w], attributes, [y]) {
    const result = new Float64Array(sizeOf(y!.shape));
    eachTerm(x!.shape, w!.shape, y!.shape, attributes, (i, k, o) => {
      result[o] = result[o]! + x!.data[i]! * w!.data[k]!;
    });
    return [result];
  },
  cases: convCases,
});

const convTransposeCase = (
  x: Shape,
  w: Shape,
  outputPadding: readonly number[],
  changes: Partial<ConvAttributes> = {},
): OpCase<ConvTransposeAttributes> => ({
  inputs: [x, w],
  attributes: { ...plain(x.length - 2, changes), outputPadding },
});

const convTransposeCases: readonly OpCase<ConvTransposeAttributes>[] = [
  convTransposeCase([2, 2, 3], [2, 3, 3], [0]),
  convTransposeCase([1, 4, 3], [4, 1, 2], [2], { strides: [3], groups: 2 }),
  convTransposeCase([1, 2, 2, 3], [2, 3, 3, 2], [1, 0], {
    strides: [2, 1],
    padsBefore: [1, 0],
    padsAfter: [1, 1],
  }),
  convTransposeCase([2, 3, 2, 2], [3, 1, 2, 3], [0, 1], { strides: [2, 2], dilations: [2, 1], groups: 3 }),
  convTransposeCase([1, 2, 3, 2], [2, 2, 1, 1], [1, 1], { strides: [2, 2] }),
];

/** The adjoint of `conv` with the same kernel: x [N, C, ...], w [C, O / groups, ...]. */
export const convTransposeOp: Applicable<ConvTransposeAttributes> = defineOp<ConvTransposeAttributes>({
  name: 'convTranspose',
  infer: ([x, w], attributes) => [inferConvTranspose(x!, w!, attributes)],
  flops: ([x, w]) => 2 * sizeOf(x!.shape) * sizeOf(w!.shape.slice(1)),
  vjp({ inputs: [x, w], attributes, needs }, [g]) {
    if (!g) return [];
    return [
      needs(0) ? convOp.apply([g, w!], shared(attributes))[0] : undefined,
      needs(1) ? kernelGradient(g, x!, w!.shape, attributes) : undefined,
    ];
  },
  lower(b, node, a) {
    b.requireFloat32(node);
    lowerConv(b, 'ConvTranspose', node.inputs[1]!.shape, a, a.outputPadding);
  },
  evaluate([x, w], attributes, [y]) {
    const result = new Float64Array(sizeOf(y!.shape));
    eachTerm(y!.shape, w!.shape, x!.shape, attributes, (o, k, i) => {
      result[o] = result[o]! + x!.data[i]! * w!.data[k]!;
    });
    return [result];
  },
  cases: convTransposeCases,
});
