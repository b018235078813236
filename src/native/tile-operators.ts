import { pathLayout, pathWorkLayout } from '../core/ops/path-layout.js';
import type { KernelRequest } from '../runtime/backend.js';
import { addProductsOperator } from './add-products.js';
import { compilePathAttend } from './path-attend.js';
import { compilePathGradient } from './path-gradient.js';
import type { PathCode } from './path-layout.js';
import { compilePathPrepare } from './path-prepare.js';
import { compilePathStep, type PathStepCode, pathStepLimits } from './path-step.js';
import { compileStick, compileStickGrad, type StickCode } from './stick-kernel.js';
import { symmetricOperator } from './symmetric-operator.js';

/** An operator over tiles: its machine code, which has all sizes built in, and how many tasks there are. */
export interface TileOperator {
  code: string;
  compile(): Uint8Array;
  tasks: number;
  /** Pairs [input, output] that may share memory. */
  inPlace?: readonly (readonly [number, number])[];
}

const same = (a: readonly number[] | undefined, b: readonly number[]) =>
  a !== undefined && a.length === b.length && a.every((dim, i) => dim === b[i]);

/** Whether all tensors are float32 and have these shapes; emitted code trusts them. */
function fits({ inputs, outputs }: KernelRequest, shapes: readonly (readonly number[])[]): boolean {
  const all = [...inputs, ...outputs];
  return (
    all.length === shapes.length &&
    all.every(({ dtype, shape }, i) => dtype === 'float32' && same(shape, shapes[i]!))
  );
}

/** Stick-breaking attention and its gradient. */
function stickOperator(request: KernelRequest): TileOperator | undefined {
  const { kind, inputs, attributes } = request;
  if (kind !== 'stickBreaking' && kind !== 'stickBreakingGrad') return undefined;
  const [q, k, v] = inputs.map(({ shape }) => shape);
  if (q?.length !== 4 || k?.length !== 4 || v?.length !== 4) return undefined;
  const [b, heads, length, d] = q as [number, number, number, number];
  const [kvHeads, dv] = [k[1]!, v[3]!];
  const block = [64, 32, 16].find((c) => length % c === 0);
  if (block === undefined || d % 16 !== 0 || dv % 16 !== 0 || heads % kvHeads !== 0) return undefined;
  const result = [b, heads, length, dv];
  const kept = [
    [b, heads, length],
    [b, heads, length / block, length],
  ];
  const operands = [q, [b, kvHeads, length, d], [b, kvHeads, length, dv]];
  const isGradient = kind === 'stickBreakingGrad';
  const shapes = isGradient ? [...operands, result, ...kept, ...operands] : [...operands, result, ...kept];
  if (!fits(request, shapes)) return undefined;
  const code: StickCode = {
    length,
    d,
    dv,
    block,
    group: heads / kvHeads,
    scale: attributes.scale ?? 1,
    attendCurrent: attributes.attendCurrent === 1,
    remainder: attributes.remainder === 1,
  };
  return {
    code: `${kind}${JSON.stringify(code)}`,
    compile: () => (isGradient ? compileStickGrad(code) : compileStick(code)),
    tasks: isGradient ? b * kvHeads : (b * heads * length) / block,
  };
}

/** The passes of PaTH attention; see `pathMix`. */
function pathOperator(request: KernelRequest): TileOperator | undefined {
  const { kind, inputs, outputs, attributes } = request;
  const isPrepare = kind === 'pathPrepare';
  const isAttend = kind === 'pathAttend';
  if (!isPrepare && !isAttend && kind !== 'pathGrad') return undefined;
  const rows = inputs[0]?.shape;
  const block = attributes.block ?? 0;
  const length = attributes.length ?? 0;
  const heads = rows?.[0];
  const d = attributes.d ?? 0;
  const dv = attributes.dv ?? 0;
  if (heads === undefined || ![16, 32, 64].includes(block) || length % block !== 0 || length === 0)
    return undefined;
  if (d % 16 !== 0 || dv % 16 !== 0 || d === 0 || dv === 0) return undefined;
  const code: PathCode = { length, d, dv, block };
  const vectors = [heads, length, d];
  const values = [heads, length, dv];
  const kept = [heads, Math.max(1, pathLayout(code).size)];
  const work = [heads, Math.max(1, pathWorkLayout(code).size)];
  const numbers = [heads, length];
  const stats = [heads, 2, length];
  const shapes = isPrepare
    ? [vectors, vectors, vectors, numbers, kept]
    : isAttend
      ? [kept, values, values, stats]
      : [
          ...[vectors, vectors, values, vectors, numbers, values, stats, kept, values],
          ...[vectors, vectors, values, vectors, numbers, work],
        ];
  if (!fits(request, shapes) || outputs.length === 0) return undefined;
  const compile = {
    pathPrepare: compilePathPrepare,
    pathAttend: compilePathAttend,
    pathGrad: compilePathGradient,
  }[kind as 'pathPrepare' | 'pathAttend' | 'pathGrad'];
  return {
    code: `${kind}${JSON.stringify(code)}`,
    compile: () => compile(code),
    tasks: isAttend ? (heads * length) / block : heads,
  };
}

/** A decoding step of PaTH attention, which writes both caches in place. */
function pathStepOperator({ kind, inputs, outputs, attributes }: KernelRequest): TileOperator | undefined {
  if (kind !== 'pathStep' || inputs.length !== 8 || outputs.length !== 3) return undefined;
  const shapes = [...inputs, ...outputs].map(({ shape }) => shape);
  const dtypes = [...inputs, ...outputs].map(({ dtype }) => dtype);
  if (dtypes.some((dtype, i) => dtype !== (i === 7 ? 'int32' : 'float32'))) return undefined;
  const [q, , v, , , keys] = shapes;
  if (q?.length !== 4 || v?.length !== 4 || keys?.length !== 4) return undefined;
  const [rows, heads, , d] = q as [number, number, number, number];
  const [kvHeads, capacity, dv] = [keys[1]!, keys[2]!, v[3]!];
  const group = heads / kvHeads;
  const { size, group: most } = pathStepLimits;
  if (!Number.isInteger(group) || group > most || d % 16 !== 0 || dv % 16 !== 0 || d > size || dv > size)
    return undefined;
  const token = (of: number) => [rows, kvHeads, 1, of];
  const caches = [
    [rows, kvHeads, capacity, d],
    [rows, kvHeads, capacity, dv],
  ];
  const expected = [
    ...[[rows, heads, 1, d], token(d), token(dv), token(d), [rows, kvHeads, 1], ...caches, [rows]],
    ...[[rows, heads, 1, dv], ...caches],
  ];
  if (!expected.every((shape, i) => same(shapes[i], shape)) || rows * kvHeads * d * dv === 0)
    return undefined;
  const code: PathStepCode = { kvHeads, group, capacity, d, dv, scale: attributes.scale ?? 1 };
  return {
    code: `${kind}${JSON.stringify(code)}`,
    compile: () => compilePathStep(code),
    tasks: rows * kvHeads,
    inPlace: [
      [5, 1],
      [6, 2],
    ],
  };
}

/** The operator for a request, or undefined where there is none. */
export const tileOperator = (request: KernelRequest): TileOperator | undefined =>
  stickOperator(request) ??
  pathOperator(request) ??
  pathStepOperator(request) ??
  symmetricOperator(request) ??
  addProductsOperator(request);
