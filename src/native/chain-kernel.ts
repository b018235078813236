import type { Pointer } from '../runtime/node/ort-api.js';
import { Assembler } from './assembler.js';
import { gp } from './instructions.js';

const { rax, rcx, rbx, rsp, rbp, rsi, rdi, r8, r9, r12, r13, r14 } = gp;
const saved = [rbx, rbp, r12, r13, r14];

/** A kernel's work on a block of rows, or a part of it: some of its tasks, one after the other. */
export interface Call {
  task: Pointer;
  /** The first task, and how many there are. */
  first: number;
  tasks: number;
  /** Address of the kernel's parameters for a block of this size. */
  parameters: Pointer;
  /** Its tensors, inputs first: which of the chain's, and how many bytes into it the block begins. */
  tensors: readonly { tensor: number; offset: number }[];
}

/** Most tensors of one call. */
export const mostOfCall = 12;

const word = 8;
/** Words of a call, before its tensors. */
const field = { task: 0, first: 1, end: 2, parameters: 3, tensors: 4 } as const;
const fixedWords = 5;
/** The calls of one block, as emitted code walks over them. A task of 0 ends the list. */
export function encodeCalls(calls: readonly Call[]): BigInt64Array<ArrayBuffer> {
  const words = calls.flatMap(({ task, first, tasks, parameters, tensors }) => {
    if (tensors.length > mostOfCall) throw new Error('a call has too many tensors');
    // frame[0] of a chain's task is its parameters; the tensors follow.
    const places = tensors.flatMap(({ tensor, offset }) => [BigInt(word * (1 + tensor)), BigInt(offset)]);
    return [task, BigInt(first), BigInt(first + tasks), parameters, BigInt(tensors.length), ...places];
  });
  const list = new BigInt64Array(new ArrayBuffer(word * (words.length + 1 + 16)));
  list.set(words.map((value) => BigInt.asIntN(64, value)));
  return list;
}

/**
 * Machine code of `task(frame, index)` for a chain: calls kernel after kernel for one block of rows. frame[0] holds, for
 * each block, the address of its list of calls. For each call it makes a frame of its own, with the addresses at
 * which the block's rows begin.
 */
export function compileChain(): Uint8Array {
  const a = new Assembler('avx2');
  const done = a.label();
  const at = (base: number, name: keyof typeof field) => ({ base, offset: word * field[name] });
  for (const register of saved) a.push(register);
  // Five registers and the return address: 16-byte alignment is kept for the callee.
  const stack = Math.ceil((word * (1 + mostOfCall)) / 16) * 16;
  a.addImmediate(rsp, -stack);
  a.mov(rbx, rdi);
  a.mov(rax, { base: rdi });
  a.mov(rbp, { base: rax, index: rsi, scale: 8 });
  const call = a.here();
  a.mov(rax, at(rbp, 'task'));
  a.test(rax, rax);
  a.jumpIf('equal', done);
  a.mov(rax, at(rbp, 'parameters'));
  a.store({ base: rsp }, rax);
  a.mov(rcx, at(rbp, 'tensors'));
  a.lea(r8, { base: rsp, offset: word });
  a.lea(r9, { base: rbp, offset: word * fixedWords });
  const tensor = a.here();
  a.mov(rax, { base: r9 });
  a.mov(rax, { base: rbx, index: rax });
  a.add(rax, { base: r9, offset: word });
  a.store({ base: r8 }, rax);
  a.addImmediate(r8, word);
  a.addImmediate(r9, 2 * word);
  a.addImmediate(rcx, -1);
  a.jumpIf('notEqual', tensor);
  a.mov(r13, r9);
  a.mov(r12, at(rbp, 'first'));
  const task = a.here();
  a.mov(rdi, rsp);
  a.mov(rsi, r12);
  a.mov(rax, at(rbp, 'task'));
  a.call(rax);
  a.addImmediate(r12, 1);
  a.mov(r14, at(rbp, 'end'));
  a.cmp(r12, r14);
  a.jumpIf('less', task);
  a.mov(rbp, r13);
  a.jump(call);
  a.bind(done);
  a.addImmediate(rsp, stack);
  for (const register of [...saved].reverse()) a.pop(register);
  a.ret();
  return a.finish();
}
