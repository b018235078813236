import { AnnealError } from '../errors.js';
import { formatShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { type ConvAttributes, convOp, convTransposeOp, plain, reaches } from './conv.js';
import { add } from './elementwise.js';
import { reshape } from './view.js';

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
