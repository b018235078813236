import { type DType, dtypes, type TypedArray } from '../../core/dtype.js';
import type { Slot } from '../backend.js';
import type { Environment } from './environment.js';
import { type Pointer, pointerArray, resultOf } from './ort-api.js';

/** What a backend holds now; its parts count themselves in and out. */
export interface Counters {
  executables: number;
  liveBytes: number;
  runs: number;
}

/** Element count of a shape; 1 for a scalar. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Shapes are copied by the call that reads them, so one array serves all. */
let dims = new BigInt64Array(new ArrayBuffer(128));

/**
 * An OrtValue* over the memory of `array`, which must stay where it is and alive while native code can
 * reach the value. The caller releases it. Throws an Error if the array is too short for the shape.
 */
export function wrap(
  { ort: { api }, hostMemory }: Environment,
  dtype: DType,
  shape: readonly number[],
  array: TypedArray,
): Pointer {
  const rank = shape.length;
  if (rank > dims.length) dims = new BigInt64Array(new ArrayBuffer(8 * rank));
  for (let i = 0; i < rank; i++) dims[i] = BigInt(shape[i]!);
  const type = dtypes[dtype].onnx;
  return resultOf(api, (out) =>
    api.CreateTensorWithDataAsOrtValue(hostMemory, array, array.byteLength, dims, rank, type, out),
  );
}

/**
 * The OrtValues of a slot's two arrays. It holds the arrays, never the slot, so that a slot can be
 * collected and this be released after it.
 */
export class SlotValues {
  readonly #environment: Environment;
  readonly #counters: Counters;
  readonly #dtype: DType;
  readonly #shape: readonly number[];
  readonly #length: number;
  #first: TypedArray | undefined;
  #firstValue: Pointer = 0n;
  #second: TypedArray | undefined;
  #secondValue: Pointer = 0n;

  constructor(environment: Environment, counters: Counters, slot: Slot) {
    this.#environment = environment;
    this.#counters = counters;
    this.#dtype = slot.dtype;
    this.#shape = slot.shape;
    this.#length = sizeOf(slot.shape);
  }

  /** The OrtValue* over `array`, which is one of the slot's current arrays. */
  of(slot: Slot, array: TypedArray): Pointer {
    // A transferred buffer leaves its array behind with length 0, and native code with a stale address.
    if (array.length !== this.#length) {
      throw new Error(`storage of a variable has ${array.length} elements, not ${this.#length}`);
    }
    if (array === this.#first) return this.#firstValue;
    if (array === this.#second) return this.#secondValue;
    return this.#adopt(slot, array);
  }

  /** Frees both values. */
  release(): void {
    this.#releaseFirst();
    this.#releaseSecond();
  }

  #adopt(slot: Slot, array: TypedArray): Pointer {
    if (array.buffer.byteLength < 128) throw new Error('storage of a variable must come from allocate()');
    const value = wrap(this.#environment, this.#dtype, this.#shape, array);
    this.#counters.liveBytes += array.byteLength;
    // Evict the array that the slot no longer has; no run uses it, since runs happen one at a time.
    if (this.#first !== slot.data && this.#first !== slot.spare) {
      this.#releaseFirst();
      this.#first = array;
      this.#firstValue = value;
    } else {
      this.#releaseSecond();
      this.#second = array;
      this.#secondValue = value;
    }
    return value;
  }

  #releaseFirst(): void {
    if (!this.#first) return;
    this.#environment.ort.api.ReleaseValue(this.#firstValue);
    this.#counters.liveBytes -= this.#first.byteLength;
    this.#first = undefined;
  }

  #releaseSecond(): void {
    if (!this.#second) return;
    this.#environment.ort.api.ReleaseValue(this.#secondValue);
    this.#counters.liveBytes -= this.#second.byteLength;
    this.#second = undefined;
  }
}

const collectedSlots = new FinalizationRegistry<SlotValues>((values) => values.release());

/** The native side of every slot that a backend has seen, freed as the slots are collected. */
export class SlotTable {
  readonly #environment: Environment;
  readonly #counters: Counters;
  readonly #values = new WeakMap<Slot, SlotValues>();

  constructor(environment: Environment, counters: Counters) {
    this.#environment = environment;
    this.#counters = counters;
  }

  valuesOf(slot: Slot): SlotValues {
    let values = this.#values.get(slot);
    if (!values) {
      values = new SlotValues(this.#environment, this.#counters, slot);
      this.#values.set(slot, values);
      collectedSlots.register(slot, values);
    }
    return values;
  }
}

/**
 * The OrtValue of a large feed, kept while the same array comes again. The array is held weakly: an
 * executable must not keep the last batch of a run alive.
 */
export class FeedValue {
  #array: WeakRef<TypedArray> | undefined;
  #value: Pointer = 0n;

  of(environment: Environment, dtype: DType, shape: readonly number[], array: TypedArray): Pointer {
    if (this.#array?.deref() === array) return this.#value;
    this.release(environment);
    this.#value = wrap(environment, dtype, shape, array);
    this.#array = new WeakRef(array);
    return this.#value;
  }

  release({ ort: { api } }: Environment): void {
    if (!this.#array) return;
    api.ReleaseValue(this.#value);
    this.#array = undefined;
  }
}

/** Null-terminated names, and a C array of pointers to them. Both must be held while C code may read them. */
export interface NameArray {
  pointers: BigUint64Array;
  text: Uint8Array;
}

/** `names` as a `const char *const *`. */
export function nameArray({ ort: { koffi } }: Environment, names: readonly string[]): NameArray {
  const bytes = Buffer.from(names.map((name) => `${name}\0`).join(''));
  const text = new Uint8Array(new ArrayBuffer(Math.max(128, bytes.length)));
  text.set(bytes);
  const pointers = pointerArray(names.length);
  let at = koffi.address(text);
  for (const [i, name] of names.entries()) {
    pointers[i] = at;
    at += BigInt(Buffer.byteLength(name) + 1);
  }
  return { pointers, text };
}
