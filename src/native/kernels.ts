import { dtypes } from '../core/dtype.js';
import { domain } from '../onnx/lower.js';
import type { KernelRequest, Kernels } from '../runtime/backend.js';
import { check, loadOrt, type Ort, type Pointer, resultOf } from '../runtime/node/ort-api.js';
import { detectSupport, type Support } from './cpu.js';
import { OperatorFactory, type OperatorSpec } from './custom-op.js';
import { compileDecode } from './decode-kernel.js';
import { decodeOperator } from './decode-operator.js';
import type { InstructionSet } from './instructions.js';
import { compileJoint } from './joint-kernel.js';
import { jointOperator } from './joint-operator.js';
import { compileMatmul } from './matmul-kernel.js';
import { matmulOperator } from './matmul-operator.js';
import { compileMatvec, matvecOperator } from './matvec-kernel.js';
import { compilePacked } from './packed-kernel.js';
import { packedOperator } from './packed-operator.js';
import { compileRows } from './row-kernel.js';
import { rowOperator } from './row-operators.js';
import { tileOperator } from './tile-operators.js';

/** Settings for tests and comparisons. */
export interface KernelOptions {
  /** Uses this set instead of the best one of the processor, which must have it. */
  set?: InstructionSet;
  /** Stands in for the probe of the machine. */
  support?: Support;
}

/** OrtCustomOp* of every operator that was made, by its name, and OrtCustomOpDomain* by the names in it. */
const operators = new Map<string, Pointer>();
const domains = new Map<string, Pointer>();

/** Code that has its sizes built in reads none. */
const noParameters = new BigInt64Array(new ArrayBuffer(256));

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/**
 * Operators made of emitted machine code, for nodes that ONNX Runtime could also compute from ordinary ones.
 * Where the machine does not allow it, `find` has none, and `status` says why.
 */
export class NativeKernels implements Kernels {
  readonly #ort: Ort;
  readonly #support: Support;
  readonly #set: InstructionSet | undefined;
  readonly #code = new Map<string, Pointer>();
  /** Name of the operator for a request, by everything that it depends on; undefined: there is none. */
  readonly #names = new Map<string, string | undefined>();
  #factory: OperatorFactory | undefined;

  constructor(options: KernelOptions = {}) {
    this.#ort = loadOrt();
    this.#support = options.support ?? detectSupport();
    const { sets } = this.#support;
    this.#set = options.set === undefined ? sets[0] : sets.find((set) => set === options.set);
  }

  /** The instruction set in use, or why there is none. */
  get status(): string {
    return this.#set ?? this.#support.reason ?? 'the instruction set that was asked for is missing';
  }

  find(request: KernelRequest): string | undefined {
    if (!this.#set) return undefined;
    const key = JSON.stringify(request);
    if (!this.#names.has(key)) this.#names.set(key, this.#make(request, this.#set));
    return this.#names.get(key);
  }

  #make(request: KernelRequest, set: InstructionSet): string | undefined {
    const matvec = matvecOperator(request);
    if (matvec) {
      const { code } = matvec;
      const task = this.#codeOf(`matvec${JSON.stringify(code)}`, () => compileMatvec(code, set));
      return this.#operator(request, { task, ...matvec });
    }
    const decode = decodeOperator(request);
    if (decode) {
      const { code } = decode;
      const task = this.#codeOf(`decode${JSON.stringify(code)}`, () => compileDecode(code, set));
      return this.#operator(request, { task, ...decode });
    }
    // Products are emitted for AVX-512 alone: with 16 short registers they are no faster than ONNX Runtime's.
    const product = set === 'avx512' ? matmulOperator(request) : undefined;
    if (product) {
      const { code } = product;
      const task = this.#codeOf(`matmul${JSON.stringify(code)}`, () => compileMatmul(code));
      return this.#operator(request, { task, ...product });
    }
    const packed = packedOperator(request, this.#integerSet(set));
    if (packed) {
      const { code, set: best, rowBlock } = packed;
      const emit = () => compilePacked(code, best, rowBlock);
      return this.#operator(request, {
        task: this.#codeOf(`packed${best}${rowBlock}${JSON.stringify(code)}`, emit),
        ...packed,
      });
    }
    const tiles = set === 'avx512' ? tileOperator(request) : undefined;
    if (tiles) {
      const task = this.#codeOf(tiles.code, tiles.compile);
      const { tasks, inPlace = [] } = tiles;
      return this.#operator(request, { task, tasks, parameters: noParameters, inPlace });
    }
    const joint = set === 'avx512' ? jointOperator(request) : undefined;
    if (joint) {
      const { code } = joint;
      const task = this.#codeOf(`joint${JSON.stringify(code)}`, () => compileJoint(code));
      return this.#operator(request, { task, ...joint });
    }
    const found = rowOperator(request);
    if (!found) return undefined;
    return this.#operator(request, {
      task: this.#codeOf(found.code, () => compileRows(found.formula(), set, { causal: found.causal })),
      ...found,
    });
  }

  /** AVX-512 without VNNI has no advantage for integers. */
  #integerSet(set: InstructionSet): InstructionSet {
    return this.#support.reason === undefined && this.#support.hasVnni ? set : 'avx2';
  }

  #operator(
    { kind, inputs, outputs }: KernelRequest,
    work: Pick<OperatorSpec, 'task' | 'tasks' | 'parameters' | 'inPlace'>,
  ): string {
    const { task, tasks, parameters, inPlace } = work;
    const name = `${kind}_${operators.size}`;
    this.#factory ??= new OperatorFactory(this.#ort, this.#installer());
    const operator = this.#factory.make({
      name,
      inputBytes: inputs.map(({ shape, dtype }) => dtypes[dtype].bytes * sizeOf(shape)),
      inputTypes: inputs.map(({ dtype }) => dtypes[dtype].onnx),
      outputShapes: outputs.map(({ shape }) => shape),
      task,
      tasks,
      parameters,
      inPlace,
    });
    operators.set(name, operator);
    return name;
  }

  /** Installs machine code on first use. */
  #codeOf(key: string, emit: () => Uint8Array): Pointer {
    let found = this.#code.get(key);
    if (found === undefined) {
      found = this.#installer()(emit());
      this.#code.set(key, found);
    }
    return found;
  }

  #installer() {
    if (this.#support.reason !== undefined) throw new Error(this.#support.reason);
    return this.#support.install;
  }
}

/** OrtCustomOpDomain* with these operators. It lives as long as the process: sessions refer to it. */
export function domainOf(names: readonly string[]): Pointer {
  const { api } = loadOrt();
  const sorted = [...new Set(names)].sort();
  const key = sorted.join();
  let found = domains.get(key);
  if (found === undefined) {
    found = resultOf(api, (out) => api.CreateCustomOpDomain(domain, out));
    for (const name of sorted) check(api, api.CustomOpDomain_Add(found, operators.get(name)!));
    domains.set(key, found);
  }
  return found;
}

let shared: NativeKernels | undefined;

/** The kernels of this process, made on first use. */
export function nativeKernels(): NativeKernels {
  shared ??= new NativeKernels();
  return shared;
}

/** Puts other kernels in the place of the process's, for programs compiled from now on. Tests use it. */
export function replaceKernels(options: KernelOptions): void {
  shared = new NativeKernels(options);
}
