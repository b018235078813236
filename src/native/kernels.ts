import { dtypes } from '../core/dtype.js';
import { domain } from '../onnx/lower.js';
import type { JoinedKernel, KernelLink, KernelRequest, Kernels } from '../runtime/backend.js';
import { environment } from '../runtime/node/environment.js';
import { check, loadOrt, type Ort, type Pointer, resultOf } from '../runtime/node/ort-api.js';
import { type Asking, blockOperator } from './block-operator.js';
import { compileBlockProduct } from './block-product.js';
import { type Chain, type ChainContext, findChains } from './chain.js';
import { compileChain, encodeCalls } from './chain-kernel.js';
import type { BlockWork } from './chain-schedule.js';
import { detectSupport, type Support } from './cpu.js';
import { maxTensors, OperatorFactory, type OperatorSpec } from './custom-op.js';
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

/** A kernel's code and how it is run on tensors of fixed shapes. */
type Work = Pick<OperatorSpec, 'task' | 'tasks' | 'parameters' | 'inPlace'>;

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
  /** Kernels for blocks of rows by their requests, and chains by all that they consist of. */
  readonly #blocks = new Map<string, BlockWork | undefined>();
  readonly #chains = new Map<string, string>();
  /** What each operator was made for. */
  readonly #requests = new Map<string, KernelRequest>();
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

  join(links: readonly KernelLink[], reads: ReadonlyMap<string, number>): JoinedKernel[] {
    if (this.#set !== 'avx512') return [];
    const context: ChainContext = {
      threads: environment({}).threads,
      mostTensors: maxTensors,
      requestOf: (operator) => this.#requests.get(operator),
      workOf: (request, asking) => this.#blockWork(request, asking),
    };
    return findChains(links, reads, context).map((chain) => ({ ...chain, operator: this.#chain(chain) }));
  }

  #chain({ inputTypes: inputs, outputs, inPlace, blocks }: Chain): string {
    const key = JSON.stringify([inputs, outputs.map(({ shape }) => shape), inPlace, blocks], (_, value) =>
      typeof value === 'bigint' ? `${value}` : value,
    );
    let name = this.#chains.get(key);
    if (name === undefined) {
      const lists = blocks.map((calls) => BigInt.asIntN(64, this.#factoryOf().keep(encodeCalls(calls))));
      const parameters = new BigInt64Array(new ArrayBuffer(8 * (16 + lists.length)));
      parameters.set(lists);
      const task = this.#codeOf('chain', compileChain);
      const request = { kind: 'chain', attributes: {}, inputs, outputs };
      name = this.#operator(request, { task, tasks: lists.length, parameters, inPlace });
      this.#chains.set(key, name);
    }
    return name;
  }

  #make(request: KernelRequest, set: InstructionSet): string | undefined {
    const work = this.#work(request, set);
    if (!work) return undefined;
    const name = this.#operator(request, work);
    this.#requests.set(name, request);
    return name;
  }

  #work(request: KernelRequest, set: InstructionSet): Work | undefined {
    const matvec = matvecOperator(request);
    if (matvec) {
      const { code } = matvec;
      const task = this.#codeOf(`matvec${JSON.stringify(code)}`, () => compileMatvec(code, set));
      return { task, ...matvec };
    }
    const decode = this.#decodeWork(request, set);
    if (decode) return decode;
    // Products are emitted for AVX-512 alone: with 16 short registers they are no faster than ONNX Runtime's.
    const product = set === 'avx512' ? matmulOperator(request) : undefined;
    if (product) {
      const { code } = product;
      const task = this.#codeOf(`matmul${JSON.stringify(code)}`, () => compileMatmul(code));
      return { task, ...product };
    }
    const packed = packedOperator(request, this.#integerSet(set));
    if (packed) {
      const { code, set: best, rowBlock } = packed;
      const emit = () => compilePacked(code, best, rowBlock);
      return { task: this.#codeOf(`packed${best}${rowBlock}${JSON.stringify(code)}`, emit), ...packed };
    }
    const tiles = set === 'avx512' ? tileOperator(request) : undefined;
    if (tiles) {
      const task = this.#codeOf(tiles.code, tiles.compile);
      const { tasks, inPlace = [] } = tiles;
      return { task, tasks, parameters: noParameters, inPlace };
    }
    return (set === 'avx512' ? this.#jointWork(request) : undefined) ?? this.#rowWork(request, set);
  }

  #jointWork(request: KernelRequest): Work | undefined {
    const joint = jointOperator(request);
    if (!joint) return undefined;
    const { code } = joint;
    return { task: this.#codeOf(`joint${JSON.stringify(code)}`, () => compileJoint(code)), ...joint };
  }

  #rowWork(request: KernelRequest, set: InstructionSet): Work | undefined {
    const found = rowOperator(request);
    if (!found) return undefined;
    const emit = () => compileRows(found.formula(), set, { causal: found.causal });
    return { task: this.#codeOf(found.code, emit), ...found };
  }

  /** A kernel for a block of rows of a chain, whose parameters are kept. */
  #blockWork(request: KernelRequest, asking?: Asking): BlockWork | undefined {
    const key = JSON.stringify([request, asking]);
    if (!this.#blocks.has(key)) {
      const product = blockOperator(request, asking);
      const work = product
        ? {
            ...product,
            task: this.#codeOf(`block${JSON.stringify(product.code)}`, () =>
              compileBlockProduct(product.code),
            ),
          }
        : (this.#decodeWork(request, 'avx512', 1) ?? this.#rowWork(request, 'avx512'));
      const kept = work && {
        task: work.task,
        tasks: work.tasks,
        parameters: this.#factoryOf().keep(work.parameters),
        ...(product && { isProduct: true }),
      };
      this.#blocks.set(key, kept);
    }
    return this.#blocks.get(key);
  }

  #decodeWork(request: KernelRequest, set: InstructionSet, mostOfTask?: number): Work | undefined {
    const decode = decodeOperator(request, mostOfTask);
    if (!decode) return undefined;
    const { code } = decode;
    return { task: this.#codeOf(`decode${JSON.stringify(code)}`, () => compileDecode(code, set)), ...decode };
  }

  /** AVX-512 without VNNI has no advantage for integers. */
  #integerSet(set: InstructionSet): InstructionSet {
    return this.#support.reason === undefined && this.#support.hasVnni ? set : 'avx2';
  }

  #operator({ kind, inputs, outputs }: KernelRequest, work: Work): string {
    const { task, tasks, parameters, inPlace } = work;
    const name = `${kind}_${operators.size}`;
    const operator = this.#factoryOf().make({
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

  #factoryOf(): OperatorFactory {
    this.#factory ??= new OperatorFactory(this.#ort, this.#installer());
    return this.#factory;
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
