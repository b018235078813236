import type { KernelRequest } from '../runtime/backend.js';
import { compileStick, compileStickGrad, type StickCode } from './stick-kernel.js';

/** An operator over tiles: its machine code, which has all sizes built in, and how many tasks there are. */
export interface TileOperator {
  code: string;
  compile(): Uint8Array;
  tasks: number;
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

/** The operator for a request, or undefined where there is none. */
export const tileOperator = (request: KernelRequest): TileOperator | undefined => stickOperator(request);
