import type { KernelRequest } from '../runtime/backend.js';
import { Assembler } from './assembler.js';
import type { OperatorSpec } from './custom-op.js';
import { gp, type InstructionSet } from './instructions.js';
import { acrossLanes } from './lanes.js';

const { rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11 } = gp;

/** What is compiled into a product of a matrix and a vector. */
export interface MatvecCode {
  /** The matrix is the first operand: y = A·x instead of x·Aᵀ, which is the same numbers. */
  matrixFirst: boolean;
  /** There is a third operand, to be added. */
  addend: boolean;
}

/** A product for fixed shapes: its machine code's variant and the rest of an operator. */
export interface MatvecOperator extends Pick<OperatorSpec, 'tasks' | 'parameters' | 'inPlace'> {
  code: MatvecCode;
}

/** Parameters, in 8-byte words. */
const parameter = { rows: 0, rowBytes: 1, rowsPerTask: 2 } as const;

/** Rows are read in whole vectors of either instruction set. */
const lanes = 16;
/** Bytes of the matrix that a task reads: long beside the cost of handing it out, short beside the smallest matrix. */
const taskBytes = 2 ** 17;
/** Below so many elements of the matrix the work is done before it is handed out. */
const smallest = 2 ** 15;

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/**
 * The operator for a `matmul` or `gemm` that multiplies a matrix [n, k], stored row by row, with one vector; undefined
 * for other products. Such a product is as fast as the matrix comes out of memory.
 */
export function matvecOperator({
  kind,
  inputs,
  outputs,
  attributes,
}: KernelRequest): MatvecOperator | undefined {
  if (kind !== 'matmul' && kind !== 'gemm') return undefined;
  const { transA = 0, transB = 0, alpha = 1, triangle = 0 } = attributes;
  const [a, b, c] = inputs.map(({ shape }) => shape);
  const y = outputs[0]?.shape;
  if (!a || !b || !y || inputs.length !== (kind === 'gemm' ? 3 : 2) || outputs.length !== 1) return undefined;
  if ([...inputs, ...outputs].some(({ dtype }) => dtype !== 'float32')) return undefined;
  if (transA !== 0 || alpha !== 1 || triangle !== 0) return undefined;
  const isRow = transB === 1 && b.length === 2 && sizeOf(a) === a.at(-1);
  const isColumn = transB === 0 && a.length === 2 && b.length === 2 && b[1] === 1;
  if (!isRow && !isColumn) return undefined;
  const [matrix, vector] = (isRow ? [b, a] : [a, b]) as [readonly number[], readonly number[]];
  const [n, k] = matrix as [number, number];
  if (k % lanes !== 0 || n * k < smallest || sizeOf(vector) !== k || sizeOf(y) !== n) return undefined;
  if (c && sizeOf(c) !== n) return undefined;
  const rowsPerTask = Math.max(1, Math.floor(taskBytes / (4 * k)));
  const parameters = new BigInt64Array(new ArrayBuffer(128));
  parameters[parameter.rows] = BigInt(n);
  parameters[parameter.rowBytes] = BigInt(4 * k);
  parameters[parameter.rowsPerTask] = BigInt(rowsPerTask);
  return {
    code: { matrixFirst: !isRow, addend: c !== undefined },
    tasks: Math.ceil(n / rowsPerTask),
    parameters,
    inPlace: c ? [[2, 0]] : [],
  };
}

/**
 * Machine code of `task(frame, index)`: dot products of consecutive rows with the vector. Each row is read from end to
 * end before the next, so that a thread reads its part of memory in one sweep; the vector stays in the cache.
 */
export function compileMatvec({ matrixFirst, addend }: MatvecCode, set: InstructionSet): Uint8Array {
  const a = new Assembler(set);
  const [matrix, vector, y, added] = [r9, r8, r10, r11];
  const operand = (position: number) => ({ base: rdi, offset: 8 * position });
  a.mov(rax, { base: rdi });
  const field = (name: keyof typeof parameter) => ({ base: rax, offset: 8 * parameter[name] });
  a.imul(rsi, field('rowsPerTask'));
  a.mov(rcx, field('rows'));
  a.sub(rcx, rsi);
  a.mov(rdx, field('rowsPerTask'));
  a.cmp(rdx, rcx);
  a.movIf('less', rcx, rdx); // rows of this task
  a.mov(rdx, field('rowBytes'));
  a.mov(vector, operand(matrixFirst ? 2 : 1));
  a.mov(y, operand(addend ? 4 : 3));
  a.lea(y, { base: y, index: rsi, scale: 4 });
  if (addend) {
    a.mov(added, operand(3));
    a.lea(added, { base: added, index: rsi, scale: 4 });
  }
  a.imul(rsi, rdx);
  a.mov(matrix, operand(matrixFirst ? 1 : 2));
  a.add(matrix, rsi);
  const done = a.label();
  a.test(rcx, rcx);
  a.jumpIf('equal', done);
  const row = a.here();
  dotProduct(a, matrix, vector);
  if (addend) a.vector('addScalar', 0, 0, { base: added }, { bits: 128 });
  a.vector('storeScalar', 0, 0, { base: y }, { bits: 128 });
  a.add(matrix, rdx);
  for (const register of addend ? [y, added] : [y]) a.addImmediate(register, 4);
  a.addImmediate(rcx, -1);
  a.jumpIf('notEqual', row);
  a.bind(done);
  a.zeroUpper();
  a.ret();
  return a.finish();
}

/** Sums of four vectors at a time: enough chains to hide the latency of additions. */
const chains = 4;

/** Register 0 = the sum over rdx bytes of both operands, a multiple of 64. Uses rax, rsi and 8 registers. */
function dotProduct(a: Assembler, matrix: number, vector: number): void {
  const step = (i: number) => {
    const offset = i * a.width;
    a.vector('load', chains + i, 0, { base: matrix, index: rsi, offset });
    a.vector('fma231', i, chains + i, { base: vector, index: rsi, offset });
  };
  for (let i = 0; i < chains; i++) a.vector('xor', i, i, i);
  const rest = a.label();
  const done = a.label();
  a.zero(rsi);
  a.mov(rax, rdx);
  a.addImmediate(rax, -chains * a.width);
  a.jumpIf('less', rest);
  a.align(16);
  const loop = a.here();
  for (let i = 0; i < chains; i++) step(i);
  a.addImmediate(rsi, chains * a.width);
  a.cmp(rsi, rax);
  a.jumpIf('notGreater', loop);
  a.bind(rest);
  a.cmp(rsi, rdx);
  a.jumpIf('notLess', done);
  const single = a.here();
  step(0);
  a.addImmediate(rsi, a.width);
  a.cmp(rsi, rdx);
  a.jumpIf('less', single);
  a.bind(done);
  a.vector('add', 0, 0, 1);
  a.vector('add', 2, 2, 3);
  a.vector('add', 0, 0, 2);
  acrossLanes(a, 'add', 0, 1);
}
