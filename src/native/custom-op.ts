import { type Ort, type Pointer, pointerArray } from '../runtime/node/ort-api.js';
import { Assembler } from './assembler.js';
import { gp } from './instructions.js';
import type { Installer } from './memory.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r12, r13, r14, r15 } = gp;

/** What an operator does, for fixed shapes. Its results are float32. */
export interface OperatorSpec {
  name: string;
  /** Bytes of each input, checked before every run. */
  inputBytes: readonly number[];
  /** Element type of each input, by ONNX's numbers. */
  inputTypes: readonly number[];
  outputShapes: readonly (readonly number[])[];
  /**
   * `void task(void **frame, size_t index)`: does part `index` of the work. frame[0] is `parameters`, then
   * come the addresses of the inputs and of the outputs. Parts may run at the same time, in any order.
   */
  task: Pointer;
  tasks: number;
  /** Read by the task: integers and, as their bits, floats. */
  parameters: BigInt64Array<ArrayBuffer>;
  /** Pairs [input, output] that may share memory: each element is read before it is written. */
  inPlace: readonly (readonly [number, number])[];
}

/** Most tensors that an operator may have. */
export const maxTensors = 128;

/** Offsets in OrtCustomOp (onnxruntime_c_api.h), in 8-byte words, and behind it what the code below reads. */
const at = {
  version: 0,
  createKernel: 1,
  getName: 2,
  getProvider: 3,
  getInputType: 4,
  getInputCount: 5,
  getOutputType: 6,
  getOutputCount: 7,
  kernelCompute: 8,
  kernelDestroy: 9,
  inputCharacteristic: 10,
  outputCharacteristic: 11,
  inputMemory: 12,
  variadicInputArity: 13,
  variadicInputHomogeneity: 14,
  variadicOutputArity: 15,
  variadicOutputHomogeneity: 16,
  kernelComputeV2: 18,
  startVersion: 20,
  endVersion: 21,
  getMayInplace: 22,
  releaseMayInplace: 23,
  name: 26,
  inputCount: 27,
  outputCount: 28,
  inputBytes: 29,
  outputs: 30,
  task: 31,
  tasks: 32,
  parameters: 33,
  inputTypes: 34,
} as const;
const words = 35;

/** Whatever structs point at. It belongs to the process, as sessions may outlive the factory that served them. */
const kept: object[] = [];

/** Addresses of the functions that every operator has. */
type Accessors = Record<'one' | 'zero' | 'self' | 'last' | 'inputType' | number, Pointer>;

/** Layout of the struct that is filled in: the one with KernelComputeV2 and in-place pairs. */
const structVersion = 18n;

/** Indices in OrtApi of what the compute function calls. */
const ortIndex = {
  createStatus: 0,
  getTensorMutableData: 51,
  getInput: 90,
  getOutput: 91,
  parallelFor: 274,
  getTensorSizeInBytes: 318,
} as const;

const invalidArgument = 2;
/** Stack of the compute function: frame (parameters and tensors), then a value, then a size; 8 modulo 16. */
const frameBytes = 8 * (1 + maxTensors);
const valueAt = frameBytes;
const sizeAt = frameBytes + 8;
const stackBytes = frameBytes + 16;

/**
 * Builds OrtCustomOp structs. Every function in them is emitted code. As most get the struct itself as
 * their first argument, one set of functions serves all operators; only in-place pairs need some of their own.
 * Structs live as long as the process, since sessions point at them.
 */
export class OperatorFactory {
  readonly #install: Installer;
  readonly #ort: Ort;
  readonly #functions: Accessors;
  readonly #compute: Pointer;
  readonly #inPlace = new Map<string, Pointer>();

  constructor(ort: Ort, install: Installer) {
    this.#ort = ort;
    this.#install = install;
    const refusal = this.#text('an input has another size than the operator was made for');
    this.#compute = install(computeFunction((index) => ort.addressOf(index), refusal));
    this.#functions = this.#accessors();
  }

  /** Address of a new OrtCustomOp. */
  make(spec: OperatorSpec): Pointer {
    const { inputBytes, inputTypes, outputShapes } = spec;
    if (inputBytes.length + outputShapes.length > maxTensors)
      throw new Error(`${spec.name}: too many tensors`);
    const struct = pointerArray(words);
    const functions = this.#functions;
    struct.fill(functions.zero, at.createKernel, at.endVersion);
    struct[at.version] = structVersion;
    struct[at.createKernel] = functions.self;
    struct[at.getName] = functions[at.name]!;
    struct[at.getInputType] = functions.inputType;
    struct[at.getOutputType] = functions.one;
    struct[at.getInputCount] = functions[at.inputCount]!;
    struct[at.getOutputCount] = functions[at.outputCount]!;
    struct.fill(functions.one, at.variadicInputArity, at.variadicOutputHomogeneity + 1);
    struct[17] = 0n;
    struct[at.kernelComputeV2] = this.#compute;
    struct[19] = 0n;
    struct[at.startVersion] = functions.one;
    struct[at.endVersion] = functions.last;
    const pairs = spec.inPlace.length > 0;
    struct[at.getMayInplace] = pairs ? this.#inPlacePairs(spec.inPlace) : 0n;
    struct[at.releaseMayInplace] = pairs ? functions.zero : 0n;
    struct[at.name] = this.#text(spec.name);
    struct[at.inputCount] = BigInt(inputBytes.length);
    struct[at.outputCount] = BigInt(outputShapes.length);
    struct[at.inputBytes] = this.keep(BigUint64Array.from(padded(inputBytes), BigInt));
    struct[at.inputTypes] = this.keep(BigUint64Array.from(padded(inputTypes), BigInt));
    struct[at.outputs] = this.#outputTable(outputShapes);
    struct[at.task] = spec.task;
    struct[at.tasks] = BigInt(spec.tasks);
    struct[at.parameters] = this.keep(spec.parameters);
    return this.keep(struct);
  }

  /** Pairs of (address of the dimensions, rank). */
  #outputTable(shapes: readonly (readonly number[])[]): Pointer {
    const table = shapes.flatMap((shape) => [
      this.keep(BigUint64Array.from(padded(shape), BigInt)),
      BigInt(shape.length),
    ]);
    return this.keep(BigUint64Array.from([...table, ...Array<bigint>(16).fill(0n)]));
  }

  /** Functions that return a constant, their first argument, a word of the struct that it points at, or an input's type. */
  #accessors(): Accessors {
    const a = new Assembler('avx2');
    const offsets = new Map<string, number>();
    const define = (name: string, body: () => void) => {
      a.align(16);
      offsets.set(name, a.here().position);
      body();
      a.ret();
    };
    define('zero', () => a.zero(rax));
    define('one', () => a.movImmediate(rax, 1));
    define('last', () => a.movImmediate(rax, 0x7fffffff));
    define('self', () => a.mov(rax, rdi));
    define('inputType', () => {
      a.mov(rax, { base: rdi, offset: 8 * at.inputTypes });
      a.mov(rax, { base: rax, index: rsi, scale: 8 });
    });
    for (const word of [at.name, at.inputCount, at.outputCount]) {
      define(String(word), () => a.mov(rax, { base: rdi, offset: 8 * word }));
    }
    const base = this.#install(a.finish());
    return Object.fromEntries([...offsets].map(([name, offset]) => [name, base + BigInt(offset)])) as never;
  }

  /** `size_t f(int **inputs, int **outputs)` for a list of pairs. */
  #inPlacePairs(pairs: OperatorSpec['inPlace']): Pointer {
    const key = pairs.join(';');
    let found = this.#inPlace.get(key);
    if (found === undefined) {
      const a = new Assembler('avx2');
      for (const [side, register] of [
        [0, rdi],
        [1, rsi],
      ] as const) {
        a.movImmediate(rax, this.keep(Int32Array.from(padded(pairs.map((pair) => pair[side])))));
        a.store({ base: register }, rax);
      }
      a.movImmediate(rax, pairs.length);
      a.ret();
      found = this.#install(a.finish());
      this.#inPlace.set(key, found);
    }
    return found;
  }

  #text(text: string): Pointer {
    return this.keep(Uint8Array.from(padded([...Buffer.from(text), 0])));
  }

  /** Keeps an array for as long as the process, and gives its address. */
  keep(array: NodeJS.ArrayBufferView): Pointer {
    kept.push(array);
    return this.#ort.koffi.address(array);
  }
}

/** V8 moves arrays of 64 bytes or less: a longer one stays where it is. */
const padded = (values: readonly number[]): number[] => [...values, ...Array<number>(80).fill(0)];

/**
 * `OrtStatus *compute(OrtCustomOp *op, OrtKernelContext *context)`: fetches the addresses of all tensors, then
 * runs the tasks on the runtime's threads. Any status of a call into the runtime is returned as it is.
 */
function computeFunction(addressOf: (index: number) => Pointer, refusal: Pointer): Uint8Array {
  const a = new Assembler('avx2');
  const saved = [rbx, rbp, r12, r13, r14, r15];
  const done = a.label();
  const success = a.label();
  const refused = a.label();
  const callRuntime = (index: number) => {
    a.movImmediate(rax, addressOf(index));
    a.call(rax);
  };
  const checked = (index: number) => {
    callRuntime(index);
    a.test(rax, rax);
    a.jumpIf('notEqual', done);
  };
  const field = (word: number) => ({ base: rbx, offset: 8 * word });
  const dataInto = () => {
    a.mov(rdi, { base: rsp, offset: valueAt });
    a.lea(rsi, { base: rsp, index: r12, scale: 8, offset: 8 });
    checked(ortIndex.getTensorMutableData);
  };
  for (const register of saved) a.push(register);
  a.addImmediate(rsp, -stackBytes);
  a.mov(rbx, rdi);
  a.mov(rbp, rsi);
  a.mov(rax, field(at.parameters));
  a.store({ base: rsp }, rax);

  // Inputs: r12 counts all tensors, r13 points at the expected sizes.
  a.zero(r12);
  a.mov(r13, field(at.inputBytes));
  const outputs = a.label();
  const nextInput = a.here();
  a.cmp(r12, field(at.inputCount));
  a.jumpIf('notBelow', outputs);
  a.mov(rdi, rbp);
  a.mov(rsi, r12);
  a.lea(rdx, { base: rsp, offset: valueAt });
  checked(ortIndex.getInput);
  a.mov(rdi, { base: rsp, offset: valueAt });
  a.test(rdi, rdi);
  a.jumpIf('equal', refused);
  a.lea(rsi, { base: rsp, offset: sizeAt });
  checked(ortIndex.getTensorSizeInBytes);
  a.mov(rax, { base: rsp, offset: sizeAt });
  a.cmp(rax, { base: r13, index: r12, scale: 8 });
  a.jumpIf('notEqual', refused);
  dataInto();
  a.addImmediate(r12, 1);
  a.jump(nextInput);

  // Outputs: r14 counts them, r13 walks over their dimensions.
  a.bind(outputs);
  a.zero(r14);
  a.mov(r13, field(at.outputs));
  const work = a.label();
  const nextOutput = a.here();
  a.cmp(r14, field(at.outputCount));
  a.jumpIf('notBelow', work);
  a.mov(rdi, rbp);
  a.mov(rsi, r14);
  a.mov(rdx, { base: r13 });
  a.mov(rcx, { base: r13, offset: 8 });
  a.lea(r8, { base: rsp, offset: valueAt });
  checked(ortIndex.getOutput);
  dataInto();
  a.addImmediate(r13, 16);
  a.addImmediate(r14, 1);
  a.addImmediate(r12, 1);
  a.jump(nextOutput);

  a.bind(work);
  const parallel = a.label();
  a.mov(rdx, field(at.tasks));
  a.test(rdx, rdx);
  a.jumpIf('equal', success);
  a.cmpImmediate(rdx, 1);
  a.jumpIf('notEqual', parallel);
  a.mov(rdi, rsp);
  a.zero(rsi);
  a.mov(rax, field(at.task));
  a.call(rax);
  a.jump(success);
  a.bind(parallel);
  a.mov(rdi, rbp);
  a.mov(rsi, field(at.task));
  // As many batches as tasks: each thread takes the next one when it is free.
  a.mov(rcx, rdx);
  a.mov(r8, rsp);
  checked(ortIndex.parallelFor);

  a.bind(success);
  a.zero(rax);
  a.bind(done);
  a.addImmediate(rsp, stackBytes);
  for (const register of [...saved].reverse()) a.pop(register);
  a.ret();
  a.bind(refused);
  a.movImmediate(rdi, invalidArgument);
  a.movImmediate(rsi, refusal);
  callRuntime(ortIndex.createStatus);
  a.jump(done);
  return a.finish();
}
