import type { LowerBuilder } from '../../onnx/lower.js';
import { AnnealError } from '../errors.js';
import { type Applicable, checkDTypes, defineOp, floats, type OpCase } from '../op.js';
import { formatShape, type Shape, sizeOf, stridesOf } from '../shape.js';
import type { Tensor, TensorType } from '../tensor.js';
import { add } from './elementwise.js';
import { reshape, slice, transpose } from './view.js';

type ConvAttributes = {
  strides: readonly number[];
  padsBefore: readonly number[];
  padsAfter: readonly number[];
  dilations: readonly number[];
  groups: number;
};
type ConvTransposeAttributes = ConvAttributes & { outputPadding: readonly number[] };

/** Input elements that one application of the kernel spans along each axis. */
const reaches = (w: Shape, { dilations }: ConvAttributes) =>
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

const plain = (rank: number, changes: Partial<ConvAttributes> = {}): ConvAttributes => ({
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

const convOp: Applicable<ConvAttributes> = defineOp<ConvAttributes>({
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
  lower: (b, node, attributes) => lowerConv(b, 'Conv', node.inputs[1]!.shape, attributes),
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
  lower: (b, node, a) => lowerConv(b, 'ConvTranspose', node.inputs[1]!.shape, a, a.outputPadding),
  evaluate([x, w], attributes, [y]) {
    const result = new Float64Array(sizeOf(y!.shape));
    eachTerm(y!.shape, w!.shape, x!.shape, attributes, (o, k, i) => {
      result[o] = result[o]! + x!.data[i]! * w!.data[k]!;
    });
    return [result];
  },
  cases: convTransposeCases,
});

/** One number for every spatial axis, or one per axis. */
export type PerAxis = number | readonly number[];

/**
 * Padding of the spatial axes: a width for all sides, `[before, after]` per axis, `'valid'` for none, or
 * `'same'` for an output of size ceil(input / stride), the odd element going after.
 */
export type Padding = number | 'same' | 'valid' | readonly (readonly [before: number, after: number])[];

/** Options of a convolution. */
export interface ConvOptions {
  /** Step between applications of the kernel. Default 1. */
  stride?: PerAxis;
  /** Zeros around x. Default 0. */
  padding?: Padding;
  /** Step between the elements of the kernel. Default 1. */
  dilation?: PerAxis;
  /** Number of groups into which input and output channels are divided, each convolved alone. Default 1. */
  groups?: number;
  /** Added to each output channel, [O]. */
  bias?: Tensor | undefined;
}

/** Options of a transposed convolution; padding is cut off the result. `'same'` makes it stride times x. */
export interface ConvTransposeOptions extends ConvOptions {
  /** Rows added after the result, fewer than the stride; computed for `'same'` padding. Default 0. */
  outputPadding?: PerAxis;
}

/** `value` for each of `rank` axes. */
export function perAxis(value: PerAxis, rank: number): readonly number[] {
  return typeof value === 'number' ? new Array<number>(rank).fill(value) : [...value];
}

type Pads = Pick<ConvAttributes, 'padsBefore' | 'padsAfter'>;

/** Padding as two lists; `totals` are the widths that `'same'` stands for. */
export function resolvePadding(name: string, padding: Padding, totals: readonly number[]): Pads {
  if (padding === 'same') {
    const padsBefore = totals.map((total) => Math.floor(total / 2));
    return { padsBefore, padsAfter: totals.map((total, i) => total - padsBefore[i]!) };
  }
  if (typeof padding === 'string' || typeof padding === 'number') {
    const pads = perAxis(padding === 'valid' ? 0 : (padding as number), totals.length);
    return { padsBefore: pads, padsAfter: pads };
  }
  if (padding.length !== totals.length) {
    throw new AnnealError(`${name}: ${padding.length} pairs of padding for ${totals.length} axes`);
  }
  return { padsBefore: padding.map((pair) => pair[0]), padsAfter: padding.map((pair) => pair[1]) };
}

/** Padding for which windows that span `reach` at steps of `stride` number ceil(size / stride). */
export const samePadding = (size: number, reach: number, stride: number): number =>
  Math.max(0, (Math.ceil(size / stride) - 1) * stride + reach - size);

const letters = ['', ', L', ', H, W'];

function checkRank(name: string, rank: number, x: Tensor, w: Tensor, kernel: string): void {
  if (x.rank === rank + 2 && w.rank === rank + 2) return;
  const wanted = `x [N, C${letters[rank]}] and a kernel ${kernel}`;
  throw new AnnealError(`${name}: wants ${wanted}, not ${formatShape(x.shape)} and ${formatShape(w.shape)}`);
}

function addBias(name: string, y: Tensor, bias: Tensor | undefined): Tensor {
  if (!bias) return y;
  const channels = y.shape[1]!;
  if (bias.rank !== 1 || bias.shape[0] !== channels) {
    throw new AnnealError(`${name}: the bias has shape ${formatShape(bias.shape)}, not [${channels}]`);
  }
  return add(
    y,
    reshape(
      bias,
      y.shape.map((_, i) => (i === 1 ? channels : 1)),
    ),
  );
}

function convolve(name: string, rank: number, x: Tensor, w: Tensor, options: ConvOptions): Tensor {
  checkRank(name, rank, x, w, `[O, C/groups${rank === 1 ? ', K' : ', KH, KW'}]`);
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  const base = plain(rank, { strides: perAxis(stride, rank), dilations: perAxis(dilation, rank), groups });
  const totals = reaches(w.shape, base).map((r, i) => samePadding(x.shape[i + 2]!, r, base.strides[i]!));
  const y = convOp.apply([x, w], { ...base, ...resolvePadding(name, padding, totals) })[0]!;
  return addBias(name, y, options.bias);
}

function convolveTranspose(
  name: string,
  rank: number,
  x: Tensor,
  w: Tensor,
  options: ConvTransposeOptions,
): Tensor {
  checkRank(name, rank, x, w, `[C, O/groups${rank === 1 ? ', K' : ', KH, KW'}]`);
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  if (padding === 'same' && options.outputPadding !== undefined) {
    throw new AnnealError(`${name}: padding 'same' determines the output padding; leave outputPadding out`);
  }
  const base = plain(rank, { strides: perAxis(stride, rank), dilations: perAxis(dilation, rank), groups });
  // Applications of the kernel overlap by this much, or leave gaps if it is negative.
  const overlaps = reaches(w.shape, base).map((reach, i) => reach - base.strides[i]!);
  const pads = resolvePadding(
    name,
    padding,
    overlaps.map((overlap) => Math.max(0, overlap)),
  );
  const outputPadding =
    padding === 'same'
      ? overlaps.map((overlap) => Math.max(0, -overlap))
      : perAxis(options.outputPadding ?? 0, rank);
  return addBias(name, convTransposeOp.apply([x, w], { ...base, ...pads, outputPadding })[0]!, options.bias);
}

/**
 * Convolution (cross-correlation, as everywhere in deep learning) over one axis.
 * x [N, C, L], w [O, C / groups, K] -> [N, O, floor((L + padding - dilation (K - 1) - 1) / stride) + 1].
 * @throws AnnealError if channels and groups do not fit or the kernel is longer than the padded x.
 */
export const conv1d = (x: Tensor, w: Tensor, options: ConvOptions = {}): Tensor =>
  convolve('conv1d', 1, x, w, options);

/**
 * Convolution (cross-correlation) over two axes: x [N, C, H, W], w [O, C / groups, KH, KW] -> [N, O, H', W'],
 * with H' = floor((H + padding - dilation (KH - 1) - 1) / stride) + 1. `groups: C` convolves each channel
 * by itself (depthwise).
 * @throws AnnealError if channels and groups do not fit or the kernel is larger than the padded x.
 */
export const conv2d = (x: Tensor, w: Tensor, options: ConvOptions = {}): Tensor =>
  convolve('conv2d', 2, x, w, options);

/**
 * Transposed convolution over one axis, the adjoint of `conv1d` with the same kernel: x [N, C, L],
 * w [C, O / groups, K] -> [N, O, (L - 1) stride + dilation (K - 1) + 1 + outputPadding - padding].
 * @throws AnnealError if channels and groups do not fit or nothing is left of the result.
 */
export const convTranspose1d = (x: Tensor, w: Tensor, options: ConvTransposeOptions = {}): Tensor =>
  convolveTranspose('convTranspose1d', 1, x, w, options);

/**
 * Transposed convolution over two axes, the adjoint of `conv2d` with the same kernel: x [N, C, H, W],
 * w [C, O / groups, KH, KW] -> [N, O, H', W'], with
 * H' = (H - 1) stride + dilation (KH - 1) + 1 + outputPadding - padding.
 * @throws AnnealError if channels and groups do not fit or nothing is left of the result.
 */
export const convTranspose2d = (x: Tensor, w: Tensor, options: ConvTransposeOptions = {}): Tensor =>
  convolveTranspose('convTranspose2d', 2, x, w, options);
