import type { KernelRequest } from '../runtime/backend.js';
import { maxTensors } from './custom-op.js';
import { compileSymmetric, type SymmetricCode, symmetricTasks } from './symmetric-kernel.js';
import type { TileOperator } from './tile-operators.js';
import { chunkOf, panelColumns } from './tile-panel.js';

/** Smaller matrices are multiplied faster by ONNX Runtime. */
const fewestRows = 32;
/** Tasks enough for many threads, but not more: each packs its panel again. */
const enoughTasks = 32;
/** Rows of the smallest block that a panel is cut into for the sake of more tasks. */
const shortestBlock = 2 * panelColumns;

const same = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** Rows of a task's block, by shape alone. */
function rowBlockOf(m: number, matrices: number): number {
  const panels = matrices * Math.ceil(m / panelColumns);
  let blocks = 1;
  while (panels * blocks < enoughTasks && m / blocks >= 2 * shortestBlock) blocks *= 2;
  return Math.ceil(m / blocks / panelColumns) * panelColumns;
}

/** The operator for code whose sizes suit it. */
function operatorOf(kind: string, code: SymmetricCode): TileOperator | undefined {
  const { m, runs } = code;
  if (m % 16 !== 0 || m < fewestRows || runs.some(({ k }) => chunkOf(k) === undefined)) return undefined;
  return {
    code: `${kind}${JSON.stringify(code)}`,
    compile: () => compileSymmetric(code),
    tasks: symmetricTasks(code),
  };
}

/** scale·(weight·A·B + C) + identity·I: matrices, then C, then factors for each matrix, as far as there are any. */
function productOperator({ kind, inputs, outputs, attributes }: KernelRequest): TileOperator | undefined {
  const [a, b] = inputs.map(({ shape }) => shape);
  const y = outputs[0]?.shape;
  if (!a || !b || !y || y.length < 2) return undefined;
  const flag = (name: string) => attributes[name] === 1;
  const [transA, transB, addend] = [flag('transA'), flag('transB'), flag('addend')];
  const m = y.at(-1)!;
  const k = a.at(transA ? -2 : -1) ?? 0;
  const batch = y.slice(0, -2);
  const matrices = sizeOf(batch);
  const shapes = [
    [...batch, ...(transA ? [k, m] : [m, k])],
    [...batch, ...(transB ? [m, k] : [k, m])],
    ...(addend ? [y] : []),
    ...(flag('scaled') ? [[...batch, 1, 1]] : []),
  ];
  if (inputs.length !== shapes.length || !inputs.every(({ shape }, i) => same(shape, shapes[i]!)))
    return undefined;
  return operatorOf(kind, {
    m,
    rowBlock: rowBlockOf(m, matrices),
    runs: [{ k, turnedA: transA, turnedB: transB, count: matrices }],
    separate: false,
    weight: attributes.weight ?? 1,
    scale: attributes.scale ?? 1,
    identity: attributes.identity ?? 0,
    addend,
    scaled: flag('scaled'),
  });
}

/** Gram matrices of the smaller sides of matrices, as one stack. */
function gramOperator({ kind, inputs, outputs }: KernelRequest): TileOperator | undefined {
  const m = outputs[0]!.shape.at(-1)!;
  if (inputs.length >= maxTensors) return undefined;
  if (!same(outputs[0]!.shape, [inputs.length, m, m])) return undefined;
  const runs: { k: number; turnedA: boolean; turnedB: boolean; count: number }[] = [];
  for (const { shape } of inputs) {
    if (shape.length !== 2 || Math.min(...shape) !== m) return undefined;
    const isTall = shape[0]! > m;
    const k = Math.max(...shape);
    const last = runs.at(-1);
    if (last && last.k === k && last.turnedA === isTall) last.count++;
    else runs.push({ k, turnedA: isTall, turnedB: !isTall, count: 1 });
  }
  return operatorOf(kind, {
    m,
    rowBlock: rowBlockOf(m, inputs.length),
    runs,
    separate: true,
    weight: 1,
    scale: 1,
    identity: 0,
    addend: false,
    scaled: false,
  });
}

/** The operator for `symmetricProduct` or `gramMatrices`, or undefined where shapes do not fit. Emitted code trusts them. */
export function symmetricOperator(request: KernelRequest): TileOperator | undefined {
  const { kind, inputs, outputs } = request;
  if (kind !== 'symmetricProduct' && kind !== 'gramMatrices') return undefined;
  if (outputs.length !== 1 || [...inputs, ...outputs].some(({ dtype }) => dtype !== 'float32'))
    return undefined;
  return kind === 'gramMatrices' ? gramOperator(request) : productOperator(request);
}
